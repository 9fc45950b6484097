"""What goes in: images, labelled images, domains, text and single images, opened, checked, split and batched.

`opening.open_dataset` is the door; each kind of data is one file and one row in its table.
"""
