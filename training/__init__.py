"""How the networks that stemd ships were trained; not part of the installed package."""
