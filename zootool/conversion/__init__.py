"""From anything that holds networks to a store.

The only place that knows both sources (units, collections, images) and stores.
"""
