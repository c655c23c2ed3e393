"""Pin and download models and adapters; compare int8 with float32."""
