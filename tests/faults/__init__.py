"""Do the tests notice a mistake? Sixty of them are put into the product, one at a time.

    python -m tests.faults            all of them
    python -m tests.faults 3 17       some
    python -m tests.faults --room 3   a survivor of its own tests, against the whole room

A test that cannot fail says nothing, and no reader sees that in it. So `catalogue` has mistakes as
a careless colleague makes them: a border off by one, two durable steps in the wrong order, a check
that was dropped, a wake-up that is lost, memory that is never given back. Each is one replacement
of text. It is made in a copy of this checkout, never here; the tests that should mind are run
there, and the servers and commands that they start run from the copy too.

A fault is *noticed* when one of its tests fails with it and passes without it. One that hangs until
the time is up is noticed too, and the table says so. What is left *survived*. A survivor either
shows a test that is missing, or the fault changes nothing that anybody can tell; then the catalogue
says why, and expects it to survive.

What only power loss shows, a sync that is missing, is not looked for here.

`test_catalogue` holds the catalogue to the code, in `make test`: every text that is to be replaced
stands where it should, once. Running the faults takes a quarter of an hour and more, and is done by
hand after the code of these rooms, or their tests, have changed.
"""
