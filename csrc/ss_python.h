/* The Python front end: the codec and the matcher as built-in functions. */
#ifndef SS_PYTHON_H
#define SS_PYTHON_H

int ss_python_export(void *list, void *errors);

#endif
