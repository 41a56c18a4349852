"""The dashboard: pages under /dashboard, rendered by the coordinator itself.

Thin: parse, call one operation of the exchange, render. Whatever changes something goes through the same call of the API
that anybody else would make (`http.api.perform`), with the same checks.
"""
