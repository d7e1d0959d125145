/* What every operation goes through: a connection is lent to it and taken back.
 *
 * Two Python types. `Lender` is the base of slothstate.sqlite.pool.Pool; its methods are described in
 * slothstate/sqlite/lending.py. Here and not in Python, because around one statement the steps cost a quarter of it.
 * `Log` notes what a commit of one connection left in the write-ahead log. Everything runs under the GIL.
 */
#ifndef SS_LENDER_H
#define SS_LENDER_H

/* Appends the types `Lender` and `Log` to the Python list `list`. Takes the GIL itself. Returns 0, or -1. */
int ss_lender_export(void *list);

#endif
