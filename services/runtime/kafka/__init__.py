"""The one door to Kafka: groups, transactions, plain readers and writers, administration."""
