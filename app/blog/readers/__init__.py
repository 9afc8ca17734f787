"""What readers and authors see of subscriptions: the API, the pages of authors, and those that mails link to."""
