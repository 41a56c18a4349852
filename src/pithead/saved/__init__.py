"""What a user's computer keeps between two commands: logins, and the registrations of its miners.

The command line and the SDK read the same files, so that whoever has logged in needs no key in a script.
"""
