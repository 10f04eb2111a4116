// Shared by the example programs: arguments, one-sentence errors, progress, and a summary. Not part
// of the library.
#ifndef SAFEFUSE_EXAMPLES_COMMAND_LINE_HPP
#define SAFEFUSE_EXAMPLES_COMMAND_LINE_HPP

#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include <safefuse/safefuse.hpp>

#if defined(_WIN32)
#include <io.h>
#else
#include <sys/resource.h>
#include <unistd.h>
#endif

namespace command_line {

inline constexpr int success = 0;
inline constexpr int failed = 1;
inline constexpr int bad_arguments = 2;
inline constexpr int interrupted = 130;  // exit status that shells use for Ctrl-C

/// Prints one sentence on stderr. Returns the exit status.
inline int report(const safefuse::failure& failure) {
    std::fprintf(stderr, "error: %s\n", failure.message().c_str());
    return failed;
}

/// Makes a write beyond `ulimit -f` fail with an error. Otherwise a signal would end the program.
/// The library checks the limit before it creates a file; this covers all other files.
inline void survive_file_size_limit() {
#if defined(SIGXFSZ)
    std::signal(SIGXFSZ, SIG_IGN);
#endif
}

/// Text from a file or from the command line, made safe for a terminal.
inline std::string printable(std::string_view string) {
    return std::string{safefuse::printable(string).view()};
}

/// A string as JSON. Characters that control a terminal are escaped, too. A byte that is not UTF-8
/// becomes U+FFFD.
inline std::string json_string(std::string_view string) {
    std::string out = "\"";
    while (!string.empty()) {
        const safefuse::character next = safefuse::first_character(string);
        char escape[8];
        std::snprintf(escape, sizeof escape, "\\u%04x",
                      static_cast<unsigned>(next.is_valid ? next.code & 0xFFFFu : 0xFFFDu));
        if (!next.is_printable)
            out += escape;
        else if (string[0] == '"' || string[0] == '\\')
            (out += '\\') += string[0];
        else
            out += string.substr(0, next.size);
        string.remove_prefix(next.size);
    }
    return out + "\"";
}

/// Takes arguments one by one: options by name, then the rest.
class arguments {
public:
    arguments(int count, char** values, const char* usage)
        : left_(values + 1, values + count), usage_{usage} {}

    /// Whether the option is given.
    bool flag(std::string_view name) {
        for (std::size_t i = 0; i < left_.size(); ++i) {
            if (left_[i] != name) continue;
            left_.erase(left_.begin() + static_cast<std::ptrdiff_t>(i));
            return true;
        }
        return false;
    }
    /// The value of an option, `--option value` or `--option=value`, or `otherwise`.
    std::string value(std::string_view name, std::string otherwise) {
        for (std::size_t i = 0; i < left_.size(); ++i) {
            if (left_[i].size() > name.size() && left_[i].starts_with(name) &&
                left_[i][name.size()] == '=') {
                otherwise = left_[i].substr(name.size() + 1);
                left_.erase(left_.begin() + static_cast<std::ptrdiff_t>(i));
                return otherwise;
            }
            if (left_[i] != name) continue;
            if (i + 1 == left_.size())
                return complain(std::string{name} + " needs a value"), otherwise;
            otherwise = left_[i + 1];
            left_.erase(left_.begin() + static_cast<std::ptrdiff_t>(i),
                        left_.begin() + static_cast<std::ptrdiff_t>(i) + 2);
            return otherwise;
        }
        return otherwise;
    }
    /// The value of --family, or of --layout, its older name. Empty: not given.
    std::string family() { return value("--family", value("--layout", "")); }
    /// The value of an option as a whole number, at least 1.
    std::uint64_t count(std::string_view name, std::uint64_t otherwise) {
        const std::string given = value(name, std::to_string(otherwise));
        std::uint64_t number = 0;
        const auto [end, error] =
            std::from_chars(given.data(), given.data() + given.size(), number);
        if (error != std::errc{} || end != given.data() + given.size() || number == 0)
            complain(std::string{name} + " needs a whole number, not \"" + given + "\"");
        return number;
    }
    /// The value of an option as a size: bytes, or decimal units as in 300MB and 5GB.
    std::uint64_t size(std::string_view name, std::uint64_t otherwise) {
        const std::string given = value(name, std::to_string(otherwise));
        if (given == std::to_string(otherwise)) return otherwise;
        char* end = nullptr;
        const double number = std::strtod(given.c_str(), &end);
        const std::string_view unit{end};
        double factor = 0;
        if (unit.empty() || unit == "B") factor = 1;
        if (unit == "KB") factor = 1e3;
        if (unit == "MB") factor = 1e6;
        if (unit == "GB") factor = 1e9;
        if (unit == "TB") factor = 1e12;
        if (end == given.c_str() || factor == 0 || !(number * factor >= 1) ||
            number * factor > 1e18)
            return complain(std::string{name} + " needs a size such as 300MB or 5GB, not \"" +
                            given + "\""),
                   otherwise;
        return static_cast<std::uint64_t>(number * factor);
    }
    /// Call this after all options are taken. True if exactly `count` paths are left. Otherwise, or
    /// after a bad option, the program must stop with `status()`.
    bool positional(std::size_t count) {
        if (flag("--help") || flag("-h")) {
            std::printf("%s", usage_);
            status_ = success;
            return false;
        }
        for (const std::string& each : left_)
            if (each.size() > 1 && each[0] == '-') complain("unknown option " + each);
        if (complaint_.empty() && left_.size() != count)
            complain(left_.size() < count ? "a path is missing" : "too many arguments");
        if (complaint_.empty()) return true;
        std::fprintf(stderr, "error: %s; see --help\n", printable(complaint_).c_str());
        status_ = bad_arguments;
        return false;
    }
    [[nodiscard]] int status() const { return status_; }
    [[nodiscard]] const std::string& operator[](std::size_t i) const { return left_[i]; }
    /// Records the first mistake in the arguments.
    void complain(std::string what) {
        if (complaint_.empty()) complaint_ = std::move(what);
    }

private:
    std::vector<std::string> left_;
    const char* usage_;
    std::string complaint_;
    int status_ = bad_arguments;
};

/// "1.07 GB", in decimal units.
inline std::string size_text(std::uint64_t bytes) {
    static constexpr const char* units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    double number = static_cast<double>(bytes);
    std::size_t unit = 0;
    while (number >= 1000 && unit < 5) number /= 1000, ++unit;
    char out[32];
    std::snprintf(out, sizeof out, unit == 0 ? "%.0f %s" : "%.2f %s", number, units[unit]);
    return out;
}

/// Peak memory of this process in bytes, including mapped files. 0 if the OS does not report it.
inline std::uint64_t peak_memory_bytes() {
#if defined(_WIN32)
    return 0;
#else
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
#if defined(__APPLE__)
    return static_cast<std::uint64_t>(usage.ru_maxrss);
#else
    return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
#endif
#endif
}

/// Seconds since construction.
class stopwatch {
public:
    [[nodiscard]] double seconds() const {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    }

private:
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// Prints the last line of a program that moved bytes: what, how long, how fast, how much memory.
inline void summarise(std::uint64_t bytes, const stopwatch& watch) {
    const double seconds = watch.seconds();
    std::printf("summary: %s in %.2f s, %.2f GB/s, peak memory %s\n", size_text(bytes).c_str(),
                seconds, static_cast<double>(bytes) / 1e9 / (seconds > 1e-6 ? seconds : 1e-6),
                size_text(peak_memory_bytes()).c_str());
}

/// Shows progress: a moving bar on a terminal, otherwise a line for each tenth.
class progress_display {
public:
    explicit progress_display(bool quiet) : quiet_{quiet} {
#if defined(_WIN32)
        terminal_ = _isatty(_fileno(stderr)) != 0;
#else
        terminal_ = isatty(fileno(stderr)) != 0;
#endif
    }
    ~progress_display() {
        if (!quiet_ && terminal_ && shown_) std::fputc('\n', stderr);
    }
    progress_display(const progress_display&) = delete;
    progress_display& operator=(const progress_display&) = delete;

    bool operator()(const safefuse::run_progress& at) {
        if (quiet_ || at.total_bytes == 0) return true;
        const double share =
            static_cast<double>(at.done_bytes) / static_cast<double>(at.total_bytes);
        const double seconds = watch_.seconds();
        const int tenth = static_cast<int>(share * 10);
        if (terminal_ ? seconds - last_ < 0.1 && at.done_bytes != at.total_bytes
                      : tenth == last_tenth_)
            return true;
        last_ = seconds;
        last_tenth_ = tenth;
        shown_ = true;
        const double rate =
            static_cast<double>(at.done_bytes) / 1e9 / (seconds > 1e-6 ? seconds : 1e-6);
        const double left = share > 0 ? seconds / share - seconds : 0;
        static constexpr std::string_view full = "##############################";
        const auto bars = static_cast<int>(share * 30);
        const std::string name = printable(at.tensor);
        std::string_view tensor = name;
        while (tensor.size() > 48) tensor.remove_prefix(safefuse::first_character(tensor).size);
        if (terminal_)
            std::fprintf(stderr, "\r[%-30.*s] %3.0f%%  %.2f GB/s  %.0f s left  %-48.*s", bars,
                         full.data(), share * 100, rate, left, static_cast<int>(tensor.size()),
                         tensor.data());
        else
            std::fprintf(stderr, "%3.0f%%  %.2f GB/s  %.0f s left\n", share * 100, rate, left);
        return true;
    }

private:
    bool quiet_;
    bool terminal_ = false;
    bool shown_ = false;
    int last_tenth_ = -1;
    double last_ = -1;
    stopwatch watch_;
};

}  // namespace command_line

#endif
