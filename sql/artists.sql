-- A table of artists, made only where the one named by --table is missing and the user agrees.
-- Its name is put in as a quoted identifier. Not into a comment: a name may hold a line feed.

create table {table} (
    id   text primary key,
    name text not null,
    bio  text
);
