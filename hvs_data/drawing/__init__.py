"""Random numbers by identity: what is drawn belongs to its view, sample or step, and never depends on what was drawn before it.

The package's own draws come from one counter-based generator (:mod:`philox <hvs_data.drawing.philox>`). For code of the user's own,
a stage or a dataset:

1. A view's stage gets the numbers of (seed, epoch, index, slot), which its row carries as a key; reading a sample gets those of (seed,
   epoch, index). Each is a stream that begins anew, whatever was drawn before it and on whatever thread.
2. Where a signature asks for a generator, it is handed over (:mod:`arguments <hvs_data.drawing.arguments>`).
3. Where it does not, torch, numpy and Python's ``random`` draw from the view's stream instead of from the generators of the process,
   on this thread and for the length of the call (:mod:`context <hvs_data.drawing.context>`).
4. The generators of the process are neither drawn from, nor seeded, nor restored by it, on any thread: torch and both libraries share them
   between threads, so that seeding one for a call would reach into the trainer's own draws.
5. For torch, the random operators have kernels at a dispatch key that is off but on such a thread: no other operator pays for it
   (:mod:`operators <hvs_data.drawing.operators>`).
6. For numpy and ``random``, whose functions are methods of one hidden generator, the functions are exchanged, once, for ones that look
   first whether their thread has a stream (:mod:`libraries <hvs_data.drawing.libraries>`). On all other threads they are what they were.
7. Scoring puts the process' generators back after a forward; since no worker thread draws from them, it rolls nothing of theirs back.
"""
