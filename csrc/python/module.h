/* The Python front end: the codec and the matcher as built-in functions. */
#ifndef SS_PYTHON_MODULE_H
#define SS_PYTHON_MODULE_H

/* Appends json_encode, json_encode_item, json_decode, encode_row, encode_rows, is_main_interpreter, now_ms, glob_check,
 * glob_match, glob_filter and glob_prefix to the Python list `list`.
 *
 * `errors` is the tuple of exception classes they raise: (InvalidValue, OutOfRange, PatternError). Both are borrowed;
 * the functions keep the classes alive. What the functions take and raise is written in slothstate/native.py. Takes
 * the GIL itself, since cffi releases it. Returns 0, or -1 (an argument of the wrong type, or no memory).
 */
int ss_python_export(void *list, void *errors);

#endif
