/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * @file
 * The public interface of libtss2-tcti-spaces: a TCTI that stands in front of another TCTI and
 * gives each of its contexts a space, a TPM of its own.
 *
 * What always holds here: this is plain C, and all there is. A program that names the library to
 * the loader ("spaces:...") needs no header; this one is for linking directly.
 *
 * Source: TCG TSS 2.0 TPM Command Transmission Interface (TCTI) API Specification, Version 1.0,
 * Revision 18, which defines TSS2_TCTI_CONTEXT, what its functions do, and how every TCTI is
 * initialised (TSS2_TCTI_INIT_FUNC).
 */
#ifndef TSS2_TCTI_SPACES_H
#define TSS2_TCTI_SPACES_H

#include <stddef.h>

/* By its full name: tpm2-tss may be installed under another prefix. */
#include <tss2/tss2_tcti.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Makes a TCTI context that is a space on the TPM behind another TCTI, the child.
 *
 * It is called twice, as the initialiser of any TCTI (TSS2_TCTI_INIT_FUNC of the specification):
 * first without a context, to learn how large one is, then with one.
 *
 * @code{.c}
 * size_t size;
 * rc = Tss2_Tcti_Spaces_Init(NULL, &size, NULL);
 * TSS2_TCTI_CONTEXT *space = calloc(1, size);
 * rc = Tss2_Tcti_Spaces_Init(space, &size, "device:/dev/tpm0");
 * // ...
 * Tss2_Tcti_Finalize(space);
 * free(space);
 * @endcode
 *
 * The first call does no I/O and ignores conf. The second one opens the child and sends the TPM
 * nothing itself; it takes as long as the child's own initialiser, and with the option `wait` that
 * many seconds more. Contexts of one process whose conf names the same child, letter by letter,
 * share one connection to it; each is a space of its own.
 *
 * @par Ownership
 * The memory of the context is the caller's and has to be aligned and zeroed as calloc() does it;
 * what the context refers to is the library's, from a successful second call until
 * Tss2_Tcti_Finalize(), which flushes from the TPM what the space still holds. A call that fails
 * leaves nothing to finalize. conf is copied. The context may not be moved or copied.
 *
 * @par Threads
 * The function may be called from any thread at any time. One context is for one thread at a time;
 * different contexts may be used at once, also when they share a child, and by one thread in any
 * order. After fork() the contexts of the parent are of no use in the child process: their
 * functions fail there, and Tss2_Tcti_Finalize() sends nothing.
 *
 * @param[out]    tctiContext The context to fill; NULL to ask for its size.
 * @param[in,out] size        In bytes. Without a context: set to the size that one needs. With a
 *                            context: its size, which may be more than that and is left as it is.
 *                            Never NULL.
 * @param[in]     conf        [OPTION=VALUE,]...[CHILD[:CHILD-CONF]], zero-terminated; see
 *                            tss2-tcti-spaces(7). NULL or "": no option, and the first child of
 *                            the default list that opens.
 *
 * @retval TSS2_RC_SUCCESS              The size, or the context, is there.
 * @retval TSS2_TCTI_RC_BAD_VALUE       size is NULL; what it points to is less than a context
 *                                      needs; or conf has an option that is not known, a value
 *                                      that is not possible in this build or beside the contexts
 *                                      that are open, or spaces itself as the child. Of conf, a
 *                                      line in the log says what is wrong and what is allowed.
 * @retval TSS2_TCTI_RC_NOT_SUPPORTED   There is no library for the child that conf names.
 * @retval TSS2_TCTI_RC_IO_ERROR        The child could not reach its TPM, or none of the default
 *                                      list could. A line in the log says why, and what to do.
 * @retval TSS2_TCTI_RC_MEMORY          There was not enough memory.
 * @retval TSS2_TCTI_RC_GENERAL_FAILURE Anything that none of the others says.
 *
 * Any other code is the child's own, as its initialiser gave it.
 */
TSS2_RC Tss2_Tcti_Spaces_Init(TSS2_TCTI_CONTEXT* tctiContext, size_t* size, const char* conf);

#ifdef __cplusplus
}
#endif

#endif /* TSS2_TCTI_SPACES_H */
