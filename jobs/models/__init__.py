"""Model and adapter names become pinned folders; int8 is compared with float32."""
