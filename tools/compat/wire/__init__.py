"""Kafka's wire format in plain Python, for the programs that need requests no client would send."""
