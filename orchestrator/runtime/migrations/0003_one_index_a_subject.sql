-- A subject has some ten sagas: the index of its keys finds them as well, and each admission writes one index less.
DROP INDEX sagas_by_subject;
