/* Tables and lists as the cache keeps them: exact dict and list, nested, of str, int, float, bool and None.
 *
 * A kept tree is hidden from Python's collector, so no Python code can come by it: it never changes, and copying it
 * reads it in place. No Python code runs in here.
 */
#ifndef SS_PYTHON_TREE_H
#define SS_PYTHON_TREE_H

#include "python/arguments.h"

/* About the memory of a str, bytes, int, float or bool; 0 for NULL and for what every Python has once. */
size_t ss_plain_size(PyObject *object);

/* Adds the memory of a tree to `bytes`, each object for itself: a str that other trees have too counts in each. False,
 * and `bytes` is of no use, if anything else is in it, if it nests deeper than any stored value, or if anybody else has
 * a reference to a dict or list of it. */
bool ss_tree_size(PyObject *tree, size_t *bytes);

/* Hides a tree, of which `ss_tree_size` said that it is one. */
void ss_tree_hide(PyObject *tree);

/* A new tree like a hidden one, with no dict or list in common. NULL with MemoryError set. */
PyObject *ss_tree_copy(PyObject *tree);

#endif
