"""What is true, without any I/O: no clock, no SQL, no HTTP, no asyncio. Time and identifiers are arguments."""
