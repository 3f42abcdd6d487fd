"""Quantiles' counts as one packed text: PostgreSQL takes long to write arrays for who reads them."""

from django.db import migrations, models

MODELS = ("metrichour", "metricday", "metricmonth")
# As `aggregation.quantiles` has them.
PACK = """
    CREATE FUNCTION aggregation_pack(keys integer[], counts bigint[]) RETURNS bytea
    LANGUAGE sql IMMUTABLE AS $$
        SELECT coalesce(
            string_agg(int8send((key::bigint << 46) + least(count, (1::bigint << 46) - 1)), ''
                ORDER BY key),
            ''
        ) FROM unnest(keys, counts) AS bucket (key, count)
    $$;
"""
CHANGE = """
    ALTER TABLE aggregation_{model} ALTER COLUMN quantile_counts
        TYPE bytea USING aggregation_pack(quantile_keys, quantile_counts);
    ALTER TABLE aggregation_{model} RENAME COLUMN quantile_counts TO quantiles;
    ALTER TABLE aggregation_{model} DROP COLUMN quantile_keys;
"""
FORGET = "DROP FUNCTION aggregation_pack(integer[], bigint[])"


class Migration(migrations.Migration):
    dependencies = [("aggregation", "0004_retention")]
    operations = [
        migrations.RunSQL(
            PACK + "".join(CHANGE.format(model=model) for model in MODELS) + FORGET,
            state_operations=[
                operation
                for model in MODELS
                for operation in (
                    migrations.RemoveField(model, "quantile_keys"),
                    migrations.RemoveField(model, "quantile_counts"),
                    migrations.AddField(model, "quantiles", models.BinaryField()),
                )
            ],
        )
    ]
