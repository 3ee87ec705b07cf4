"""Images: a source a file, decoded arrays in the cache, pixels, and how images are dealt out to clients.

A source of your own is a function of its file's name, ``--dataset ./my_data.py``, or an entry point of ``oleander.datasets``::

    def my_data(data_dir: Path) -> Images

``data_dir`` is the folder of ``--data-dir``; it need not be there. The images of both splits are uint8 (m, c, h, w), their labels
whole numbers (m,) below the number of ``classes``, of which there are two or more; ``image`` says what all of them are
(``ImageSpace``). ``writers``, if that is known, says who made each training image, in whole numbers. What a source gives is kept in
the cache under the SHA-256 of the file and the names, sizes and times of what is in ``data_dir``, so it may depend on nothing else,
chance included: on a network each client makes the images anew, and they have to be the same.

Those of this folder are found by their names, and may besides ask for settings by keyword, and take what stands behind a colon in
``--dataset NAME:WORD`` as a second argument. ``cache_key``, of the same arguments, says what the images come from (without it: the
source's own file); ``called``, of the word, is how tables show it; ``PROTOCOL``, a literal, is the settings that it is
shown with.
"""
