"""Tells people of runs that ended, crashed or went silent, and of trouble with remotes.

Nothing is sent anywhere before a person added a notifier, and then only what that notifier says.
"""
