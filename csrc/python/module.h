/* The one export: all built-in functions and types of the C layer. */
#ifndef SS_PYTHON_MODULE_H
#define SS_PYTHON_MODULE_H

/* Appends one built-in function to the Python list `list`, which is borrowed: `functions(InvalidValue, OutOfRange,
 * PatternError)`, which returns a dict of all others and of the types, by name; slothstate/native.py describes them. The
 * exception classes are those that they raise, and keep alive. In two steps, because only what Python itself calls can
 * raise, and knows the interpreter that it is called in: PyGILState_Ensure enters the main one, whoever calls. Takes the
 * GIL itself, since cffi releases it. Returns 0, or -1.
 */
int ss_export(void *list);

#endif
