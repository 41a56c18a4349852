"""The operations: one function is one use of the exchange and one transaction, `(tx, now, rules, …) -> outcome`.

They load, ask the core, and save. They know no SQL and no HTTP; what they need of a store is in `ports`.
"""
