"""A process that runs SQL in Spark, for `tests.engines.spark`; it imports nothing of this project.

Each line of its input is a JSON object: `sql`, and `catalog`, the SQLite database of the Iceberg catalog `lake`. Each
line that it answers with is base64 of a pickle: (rows as dicts, None), or (None, the error).
"""

import base64
import json
import os
import pickle
import sys

from pyspark.sql import SparkSession

# What else writes to the standard output, such as the JVM, goes to the log.
ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

PACKAGES, IVY = sys.argv[1:3]

SETTINGS = {
    "spark.jars.packages": PACKAGES,
    "spark.jars.ivy": IVY,
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension,"
    "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": "1",
    # VACUUM has 10,000 tasks otherwise.
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.memory": "1g",
    # A short life: compiling less is faster.
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.sql.codegen.wholeStage": "false",
}


def main() -> None:
    builder = SparkSession.builder.master("local[2]")
    for key, value in SETTINGS.items():
        builder = builder.config(key, value)
    first = builder.getOrCreate()
    sessions = {None: first}
    answer(([], None))
    for line in sys.stdin:
        request = json.loads(line)
        catalog = request["catalog"]
        if catalog not in sessions:
            sessions[catalog] = session(first, catalog)
        try:
            rows = [row.asDict(recursive=True) for row in sessions[catalog].sql(request["sql"]).collect()]
            answer((rows, None))
        except Exception as error:
            answer((None, str(error)))


def session(first: SparkSession, catalog: str) -> SparkSession:
    """A session with an Iceberg catalog that pyiceberg's SqlCatalog of the same database shares."""
    found = first.newSession()
    for key, value in {
        "": "org.apache.iceberg.spark.SparkCatalog",
        ".catalog-impl": "org.apache.iceberg.jdbc.JdbcCatalog",
        ".uri": f"jdbc:sqlite:{catalog}?journal_mode=WAL",
        # Creating them leaves a query open, which sees no commit of others.
        ".jdbc.init-catalog-tables": "false",
        ".warehouse": f"file://{os.path.dirname(catalog)}/warehouse",
        # Otherwise it does not look for commits of others for half a minute.
        ".cache-enabled": "false",
    }.items():
        found.conf.set(f"spark.sql.catalog.lake{key}", value)
    return found


def answer(content: tuple) -> None:
    print(base64.b64encode(pickle.dumps(content)).decode(), file=ANSWERS, flush=True)


main()
