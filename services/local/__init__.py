"""The embedded stack on one machine: Kafka, ClickHouse, supervisor."""
