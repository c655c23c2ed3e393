"""The Hub at HF_ENDPOINT: one client for all of this program, its errors in one sentence, its files and listings.

Only this package knows the Hub's HTTP. Tokens are huggingface_hub's own (HF_TOKEN, or the file of `hf auth login`).
"""
