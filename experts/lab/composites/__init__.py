"""Questions that need two experts, and the three small experts that each know a part of them.

A *step* is something one expert can do: tell the guild of a person, spell a word backwards. A
*composite* asks for one step of what another comes to: the token of the guild of Bara Dolem. The
three members are trained on steps of their own, on composites whose other step is made up of random
words, and on being told what an unknown first step comes to; on no composite of two real steps.
Nothing here knows about models.
"""
