dnl SPDX-License-Identifier: BSD-2-Clause
dnl
dnl Autoconf macros of this project.
dnl
dnl What always holds here: a flag goes into an EXTRA_* or LIBRARY_* variable, which the Makefile
dnl puts before the user's own, so that CXXFLAGS and LDFLAGS from the command line have the last
dnl word; a flag that the tools refuse is left out; a check works on a copy of the user's flags.

# SPACES_COMPILER_FLAG(FLAG, [OTHER FLAGS THAT IT NEEDS])
# Adds FLAG for C and for C++, each where the compiler takes it without a warning.
AC_DEFUN([SPACES_COMPILER_FLAG], [
    _SPACES_COMPILER_FLAG([C], [CFLAGS], [$1], [$2])
    _SPACES_COMPILER_FLAG([C++], [CXXFLAGS], [$1], [$2])
])

AC_DEFUN([_SPACES_COMPILER_FLAG], [
    AC_LANG_PUSH([$1])
    AC_MSG_CHECKING([whether the $1 compiler accepts $3])
    spaces_saved=$[$2]
    [$2]="$spaces_saved $4 $3 -Werror"
    AC_COMPILE_IFELSE([AC_LANG_PROGRAM()],
        [AC_MSG_RESULT([yes])
         EXTRA_[$2]="$EXTRA_[$2] $3"],
        [AC_MSG_RESULT([no])])
    [$2]=$spaces_saved
    AC_LANG_POP([$1])
])

# SPACES_LINKER_FLAG(VARIABLE, FLAG)
AC_DEFUN([SPACES_LINKER_FLAG], [
    AC_MSG_CHECKING([whether the linker accepts $2])
    spaces_saved=$LDFLAGS
    LDFLAGS="$spaces_saved $2"
    AC_LINK_IFELSE([AC_LANG_PROGRAM()],
        [AC_MSG_RESULT([yes])
         [$1]="$[$1] $2"],
        [AC_MSG_RESULT([no])])
    LDFLAGS=$spaces_saved
])

# SPACES_FORTIFY_SOURCE
# Adds -D_FORTIFY_SOURCE=2, unless it is defined already or there is no optimisation to work on.
AC_DEFUN([SPACES_FORTIFY_SOURCE], [
    AC_MSG_CHECKING([whether to add -D_FORTIFY_SOURCE=2])
    spaces_saved=$CXXFLAGS
    CXXFLAGS="$EXTRA_CXXFLAGS $spaces_saved -Werror"
    AC_COMPILE_IFELSE(
        [AC_LANG_SOURCE([[
            #ifdef _FORTIFY_SOURCE
            #error it is defined already
            #endif
            #define _FORTIFY_SOURCE 2
            #include <cstdlib>
        ]])],
        [AC_MSG_RESULT([yes])
         EXTRA_CPPFLAGS="$EXTRA_CPPFLAGS -D_FORTIFY_SOURCE=2"],
        [AC_MSG_RESULT([no])])
    CXXFLAGS=$spaces_saved
])

# SPACES_LD_VERSION_SCRIPT(FILE)
# Sets the conditional HAVE_LD_VERSION_SCRIPT by linking a library with the project's own script.
AC_DEFUN([SPACES_LD_VERSION_SCRIPT], [
    AC_MSG_CHECKING([whether the linker takes a version script])
    spaces_saved=$LDFLAGS
    LDFLAGS="$spaces_saved -shared -fPIC -Wl,--version-script=$srcdir/$1"
    AC_LINK_IFELSE(
        [AC_LANG_SOURCE([[extern "C" const void *Tss2_Tcti_Info() { return nullptr; }]])],
        [spaces_version_script=yes], [spaces_version_script=no])
    LDFLAGS=$spaces_saved
    AC_MSG_RESULT([$spaces_version_script])
    AM_CONDITIONAL([HAVE_LD_VERSION_SCRIPT], [test "$spaces_version_script" = yes])
])

# SPACES_SANITIZER(LIST)
# Instruments everything. Sets SANITIZER_PRELOAD to what a program that is not instrumented has to
# preload to load the library (g++ only).
AC_DEFUN([SPACES_SANITIZER], [
    AS_IF([test "x$1" != xnone], [
        spaces_sanitizer="-fsanitize=$1"
        EXTRA_CFLAGS="$EXTRA_CFLAGS $spaces_sanitizer -fno-omit-frame-pointer"
        EXTRA_CXXFLAGS="$EXTRA_CXXFLAGS $spaces_sanitizer -fno-omit-frame-pointer"
        # A finding that lets the test go on is a finding that nobody sees.
        AS_CASE(["$1"], [*undefined*], [
            EXTRA_CFLAGS="$EXTRA_CFLAGS -fno-sanitize-recover=undefined"
            EXTRA_CXXFLAGS="$EXTRA_CXXFLAGS -fno-sanitize-recover=undefined"])
        EXTRA_LDFLAGS="$EXTRA_LDFLAGS $spaces_sanitizer"
        # clang would name g++'s runtime here, which its own code does not work with.
        AS_CASE(["$1: $($CXX --version)"],
            [*clang*], [],
            [*address*:*], [SANITIZER_PRELOAD=$($CXX -print-file-name=libasan.so)],
            [thread:*], [SANITIZER_PRELOAD=$($CXX -print-file-name=libtsan.so)])
        # libtool links C++ libraries without the sanitizers' runtimes, and libasan has not all that
        # the undefined behaviour sanitizer asks for.
        AS_CASE(["$SANITIZER_PRELOAD: $1"],
            [/*:*undefined*], [SANITIZER_PRELOAD="$SANITIZER_PRELOAD:$($CXX -print-file-name=libubsan.so)"])
        AC_MSG_CHECKING([whether programs with $spaces_sanitizer link])
        spaces_saved_cxx=$CXXFLAGS
        spaces_saved_ld=$LDFLAGS
        CXXFLAGS="$spaces_saved_cxx $spaces_sanitizer"
        LDFLAGS="$spaces_saved_ld $spaces_sanitizer"
        AC_LINK_IFELSE([AC_LANG_PROGRAM()], [AC_MSG_RESULT([yes])],
            [AC_MSG_ERROR([the compiler has no $spaces_sanitizer])])
        CXXFLAGS=$spaces_saved_cxx
        LDFLAGS=$spaces_saved_ld
    ])
    AC_SUBST([SANITIZER_PRELOAD])
])

# SPACES_NEED_MODULES(VARIABLE, MODULES, SWITCHES)
# Like PKG_CHECK_MODULES, with an error that says how to build without them.
AC_DEFUN([SPACES_NEED_MODULES], [
    PKG_CHECK_MODULES([$1], [$2], [],
        [AC_MSG_ERROR([the tests need $2: run script/install-dependencies, or configure with $3])])
])

# SPACES_NEED_PROGRAM(PROGRAM, SWITCHES)
AC_DEFUN([SPACES_NEED_PROGRAM], [
    AC_CHECK_PROG([spaces_have_$1], [$1], [yes], [no])
    AS_IF([test "x$spaces_have_$1" != xyes],
        [AC_MSG_ERROR([the tests need $1: run script/install-dependencies, or configure with $2])])
])
