"""What the owner of the machine allows: `settings` (the file), `decide` (the rules, pure), `governor` (both, kept in force)."""
