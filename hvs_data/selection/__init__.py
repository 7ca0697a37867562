"""Which pair is taken: who is needed, what may be chosen, what is chosen, in which steps, at which cost.

The head is :mod:`selector <hvs_data.selection.selector>`. What it stands on, in the order of a step:

- when: ``schedule`` says in which steps the model is asked, ``plan`` what a step asks for;
- who is needed: ``narrowing`` says which candidates, before any is rendered; ``geometry`` tells promising ones from their rows,
  ``overlap`` those that overlap least; ``candidates`` are those that were given;
- what may be chosen: ``allowed``, by a rule on rows;
- what the model says: ``scorer``, at the ``sizes`` that a budget sets (``budgets``) and gives up if need be (``concessions``);
- what is chosen: ``choice`` has a policy choose among ``combinations`` of a pair and local views, or ``sets`` of more global views, which
  are searched for where they are many (``set_search``); ``extra`` adds random views;
- what is told: ``telling`` writes the selection, ``unfit`` counts images without a finite loss.
"""
