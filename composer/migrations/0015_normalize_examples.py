"""Stored examples are in the normal form NFC, as new ones are: else equal texts would not be found equal."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("composer", "0014_composition_example_notes"),
    ]

    operations = [
        migrations.RunSQL(
            "UPDATE composer_example SET input = normalize(input), output = normalize(output) "
            "WHERE input IS NOT NORMALIZED OR output IS NOT NORMALIZED",
            migrations.RunSQL.noop,
        ),
    ]
