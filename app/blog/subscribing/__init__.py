"""How an address subscribes to an author, confirms and leaves: forms, links, pages and the API."""
