#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Puts deliberate bugs into the library, one at a time, and sees that the tests notice.

    run.py SOURCE FOLDER [WORD]...      those of mutations.txt whose names hold a WORD; without: all

What always holds here: SOURCE is not touched, all is done in FOLDER; a bug is looked for with the
unit tests first, and with the integration tests only if those do not notice; all of them pass before the
first bug is put in; the exit status is 0 only if there was a bug and each one was caught; one that
does not fit the source any more, or does not compile, is an error.
"""

import glob
import os
import shutil
import subprocess
import sys

UNIT_TESTS, INTEGRATION_TESTS = 'test/unit/*.unit', 'test/integration/*.int'
IGNORED = shutil.ignore_patterns('.git', 'build', 'build-[!a]*', 'autom4te.cache', '*.o', '*.lo', '*.la', '.libs', '.deps')


def read_mutations(path):
    """(name, file, old text, new text) of each."""
    with open(path) as file:
        text = ''.join(line for line in file if not line.startswith('#'))
    for block in text.strip().split('\n\n'):
        name, file, *lines = block.strip().split('\n')
        old = '\n'.join(line[1:] for line in lines if line.startswith('-'))
        new = '\n'.join(line[1:] for line in lines if line.startswith('+'))
        yield name, file, old, new


class Build:
    def __init__(self, source, folder):
        self.source = os.path.join(folder, 'source')
        self.folder = os.path.join(folder, 'build')
        shutil.rmtree(self.source, ignore_errors=True)
        shutil.copytree(source, self.source, symlinks=True, ignore=lambda at, names: {
            *IGNORED(at, names), *(n for n in names if os.path.abspath(os.path.join(at, n)) == folder)})
        os.makedirs(self.folder, exist_ok=True)
        for generated in ('Makefile', 'config.h', 'config.status', 'stamp-h1', 'libtool'):
            if os.path.exists(os.path.join(self.source, generated)):
                os.remove(os.path.join(self.source, generated))
        self.run(['../source/configure', '--enable-debug', '--quiet'], check=True)
        self.make('check', 'TESTS=', check=True)

    def run(self, command, check=False):
        done = subprocess.run(command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              stdin=subprocess.DEVNULL, text=True, errors='replace')
        if check and done.returncode != 0:
            sys.exit(f'{" ".join(command)} failed:\n{done.stdout[-3000:]}')
        return done

    def make(self, *arguments, check=False):
        return self.run(['make', '-k', f'-j{os.cpu_count()}', 'TEST_TIMEOUT=120', *arguments], check)

    def caught_by(self, pattern):
        """The tests that fail, of those whose files fit the pattern."""
        tests = sorted(os.path.relpath(t, self.folder) for t in glob.glob(os.path.join(self.folder, pattern)))
        output = self.make('check', 'TESTS=' + ' '.join(tests)).stdout
        return [line.split(':', 1)[1].strip() for line in output.split('\n')
                if line.startswith(('FAIL: ', 'ERROR: '))]

    def try_mutation(self, file, old, new):
        """The tests that caught it; None if it cannot be tried."""
        path = os.path.join(self.source, file)
        with open(path) as stream:
            text = stream.read()
        if text.count(old) != 1:
            return None
        try:
            with open(path, 'w') as stream:
                stream.write(text.replace(old, new))
            if self.make('check', 'TESTS=').returncode != 0:
                return None
            return self.caught_by(UNIT_TESTS) or self.caught_by(INTEGRATION_TESTS)
        finally:
            with open(path, 'w') as stream:
                stream.write(text)


def main():
    source, folder, *words = sys.argv[1:]
    mutations = [each for each in read_mutations(os.path.join(source, 'test/mutation/mutations.txt'))
                 if not words or any(word in each[0] for word in words)]
    build = Build(source, os.path.abspath(folder))
    if broken := build.caught_by(UNIT_TESTS) + build.caught_by(INTEGRATION_TESTS):
        sys.exit(f'these fail without any bug put in: {", ".join(broken)}')
    failed = not mutations
    for name, file, old, new in mutations:
        caught = build.try_mutation(file, old, new)
        if caught is None:
            verdict = 'DOES NOT FIT'
        else:
            verdict = 'caught by ' + ', '.join(caught) if caught else 'NOT CAUGHT'
        failed = failed or not caught
        print(f'{file}: {name}: {verdict}', flush=True)
    sys.exit(1 if failed else 0)


main()
