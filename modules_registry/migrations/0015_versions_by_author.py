from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('modules_registry', '0014_fill_trending'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddIndex(
            model_name='version',
            index=models.Index(condition=models.Q(('number__isnull', False)), fields=['author', '-created_at', '-id'], name='version_newest_of_author'),
        ),
    ]
