// Helpers for tests that run the programs as a user would.
#ifndef SAFEFUSE_TESTS_RUN_PROGRAM_HPP
#define SAFEFUSE_TESTS_RUN_PROGRAM_HPP

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#if !defined(_WIN32)
#include <sys/wait.h>
#endif

#include "support.hpp"

namespace support {

/// The output and exit status of a program. A signal is 128 plus its number, as in a shell.
struct outcome_of_program {
    int status = -1;
    std::string out, err;
};

/// The folder of programs that an environment variable names. Empty if they are not built or cannot
/// run on this machine.
inline std::string folder_of_programs(const char* variable) {
    const char* const folder = std::getenv(variable);
    return folder == nullptr ? std::string{} : std::string{folder};
}

/// An argument quoted for a POSIX shell, whatever bytes it contains.
inline std::string quoted(const std::string& argument) {
    std::string out = "'";
    for (const char c : argument) out += c == '\'' ? std::string{"'\\''"} : std::string{c};
    return out + "'";
}

#if !defined(_WIN32)
/// Runs a program and waits for it.
inline outcome_of_program run_program(const std::string& program,
                                      const std::vector<std::string>& arguments) {
    const temporary_directory said;
    std::string command = quoted(program);
    for (const std::string& each : arguments) command += ' ' + quoted(each);
    const int came = std::system(
        (command + " >" + quoted(said / "out") + " 2>" + quoted(said / "err") + " </dev/null")
            .c_str());
    return {WIFEXITED(came) ? WEXITSTATUS(came) : 128 + WTERMSIG(came), read_file(said / "out"),
            read_file(said / "err")};
}
#endif

}  // namespace support

#endif
