"""A page of HTML that needs nothing but itself: its parts, and the texts that are put into it."""
