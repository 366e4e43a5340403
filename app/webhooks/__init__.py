"""Events that customers are told of: an outbox, signed deliveries, their log."""
