from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("importing", "0001_imports")]

    operations = [
        migrations.AddField(
            model_name="moduleimport",
            name="endpoint",
            field=models.CharField(blank=True, max_length=200),
        ),
    ]
