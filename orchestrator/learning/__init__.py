"""Learning from use: verdicts in the ledger become shifts of beliefs, at once, and refits, later.

``observations`` reads what was judged, and credits who made it; ``learner`` keeps the shifts of the
state that is in use (the arithmetic is in ``routers/online.py``); ``exploring`` spends the owner's
budget on arms of which too little is known; ``history`` holds every fitted state and which is in
use; ``refit`` makes a new one and judges it; ``watch`` does so in the background.
"""
