"""The group whose members publish. Users who have a post already are authors, and stay so."""

from django.db import migrations


def make_group(apps, schema_editor):
    group, _ = apps.get_model("auth", "Group").objects.get_or_create(name="Authors")
    # Django makes content types and permissions only after the migrations.
    content_type, _ = apps.get_model("contenttypes", "ContentType").objects.get_or_create(
        app_label="blog", model="post"
    )
    permission, _ = apps.get_model("auth", "Permission").objects.get_or_create(
        content_type=content_type, codename="add_post", defaults={"name": "Can add post"}
    )
    group.permissions.add(permission)
    user = apps.get_model("accounts", "User")
    member = user.groups.through
    writers = user.objects.filter(posts__isnull=False).distinct().values_list("pk", flat=True)
    member.objects.bulk_create(
        [member(user_id=pk, group_id=group.pk) for pk in writers], batch_size=1_000, ignore_conflicts=True
    )


class Migration(migrations.Migration):
    dependencies = [
        ("blog", "0003_cover"),
        ("accounts", "0001_initial"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [migrations.RunPython(make_group, migrations.RunPython.noop)]
