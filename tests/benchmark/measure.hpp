// Shared by the benchmarks: contenders that take turns, medians and spreads, tables, results as
// JSON.
//
//     --json FILE     also write the results: an array of
//                     {"benchmark", "contender", "case", "value", "unit", "spread"}
//     --rounds N      how often each contender runs
//     --size WHICH    small or full
//     --work DIR      where inputs are made; default: the OS's temporary directory
//     --python FILE   a Python that can run peers.py beside this file; default: no contenders in
//                     Python
//
// Names of our contenders begin with "safefuse", so that the charts know them. Slowness is no
// failure.
#ifndef SAFEFUSE_TESTS_BENCHMARK_MEASURE_HPP
#define SAFEFUSE_TESTS_BENCHMARK_MEASURE_HPP

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>
#include <csignal>
#endif

namespace measure {

template <class Work>
double seconds_of(Work&& work) {
    const auto start = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

inline double median(std::vector<double> values) {
    if (values.empty()) return 0;
    std::sort(values.begin(), values.end());
    const std::size_t half = values.size() / 2;
    return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

/// The distance between the quartiles.
inline double spread(std::vector<double> values) {
    if (values.empty()) return 0;
    std::sort(values.begin(), values.end());
    return values[values.size() - 1 - values.size() / 4] - values[values.size() / 4];
}

/// Keeps the compiler from optimising a value away.
template <class Value>
void keep(const Value& value) {
#if defined(__GNUC__) || defined(__clang__)
    asm volatile("" : : "r"(&value) : "memory");
#else
    static const volatile void* kept;
    kept = &value;
#endif
}

/// How to print seconds: as a rate (amount / seconds) or as a cost (amount * seconds).
struct unit {
    std::string name;
    double amount = 1;
    bool is_rate = false;

    double of(double seconds) const { return is_rate ? amount / seconds : amount * seconds; }
};
inline unit gigabytes_per_second(double bytes) { return {"GB/s", bytes / 1e9, true}; }
inline unit nanoseconds_per(const std::string& thing, double count) {
    return {"ns per " + thing, 1e9 / count, false};
}
inline unit milliseconds() { return {"ms", 1e3, false}; }

/// One benchmark program: its options and its results.
class program {
public:
    program(std::string benchmark, int argc, char** argv, int rounds = 9)
        : benchmark_{std::move(benchmark)}, rounds_{rounds} {
        for (int i = 1; i < argc; ++i) {
            const std::string word = argv[i];
            const auto value = [&] {
                return i + 1 < argc ? std::string{argv[++i]} : std::string{};
            };
            if (word == "--json")
                json_ = value();
            else if (word == "--rounds")
                rounds_ = std::max(1, std::atoi(value().c_str()));
            else if (word == "--size")
                is_small_ = value() == "small";
            else if (word == "--work")
                parent_ = value();
            else if (word == "--python")
                python_ = value();
            else if (word == "--help") {
                std::fprintf(
                    stderr,
                    "options: --rounds N --size small --work DIRECTORY --json FILE --python "
                    "PROGRAM\n");
                std::exit(2);
            } else
                arguments.push_back(word);
        }
    }
    program(const program&) = delete;
    program& operator=(const program&) = delete;
    ~program() {
        std::error_code ignored;
        if (!work_.empty()) std::filesystem::remove_all(work_, ignored);
    }

    /// Arguments other than the options above.
    std::vector<std::string> arguments;

    int rounds() const { return rounds_; }
    bool is_small() const { return is_small_; }
    const std::string& python() const { return python_; }
    const std::string& name() const { return benchmark_; }
    /// Argument i as a number, or `otherwise`.
    std::uint64_t number(std::size_t i, std::uint64_t otherwise) const {
        return i < arguments.size() ? std::strtoull(arguments[i].c_str(), nullptr, 10) : otherwise;
    }
    /// A directory for this run, removed at the end.
    const std::filesystem::path& work() {
        if (work_.empty()) {
            if (parent_.empty()) parent_ = std::filesystem::temp_directory_path();
            work_ = parent_ / ("safefuse-benchmark-" + std::to_string(std::random_device{}()));
            std::filesystem::create_directories(work_);
        }
        return work_;
    }

    void record(const std::string& contender, const std::string& case_name, double value,
                const std::string& unit_name, double its_spread = 0) {
        lines_.push_back(
            "{\"benchmark\": " + quoted(benchmark_) + ", \"contender\": " + quoted(contender) +
            ", \"case\": " + quoted(case_name) + ", \"value\": " + number_text(value) +
            ", \"unit\": " + quoted(unit_name) + ", \"spread\": " + number_text(its_spread) + "}");
    }
    /// Records a contender that cannot take part, and how it could.
    void missing(const std::string& contender, const std::string& why) {
        const std::string line = "{\"benchmark\": " + quoted(benchmark_) +
                                 ", \"contender\": " + quoted(contender) +
                                 ", \"missing\": " + quoted(why) + "}";
        if (std::find(lines_.begin(), lines_.end(), line) != lines_.end()) return;
        std::printf("missing: %s (%s)\n", contender.c_str(), why.c_str());
        lines_.push_back(line);
    }
    void fail(const std::string& why) {
        std::fprintf(stderr, "error: %s\n", why.c_str());
        status_ = 1;
    }
    /// Writes the results. Returns main's result.
    int finish() {
        if (json_.empty()) return status_;
        std::ofstream file{json_, std::ios::binary};
        for (std::size_t i = 0; i < lines_.size(); ++i)
            file << (i == 0 ? "[\n" : ",\n") << lines_[i];
        file << (lines_.empty() ? "[]\n" : "\n]\n");
        if (!file.flush()) fail("cannot write " + json_);
        return status_;
    }

private:
    static std::string quoted(const std::string& characters) {
        std::string out = "\"";
        for (const char c : characters) {
            if (c == '"' || c == '\\') out += '\\';
            out += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
        }
        return out + "\"";
    }
    static std::string number_text(double value) {
        char digits[32];
        std::snprintf(digits, sizeof digits, "%.6g", value);
        return digits;
    }

    std::string benchmark_, json_, python_;
    std::filesystem::path parent_, work_;
    std::vector<std::string> lines_;
    int rounds_;
    bool is_small_ = false;
    int status_ = 0;
};

/// One case with contenders that take turns: each runs once per round.
class race {
public:
    race(program& of, std::string case_name) : of_{of}, case_name_{std::move(case_name)} {}

    /// Adds a contender. `work` is timed, unless it returns a double: the seconds that it measured
    /// itself; negative seconds mean failure. `before` and `after` are not timed.
    template <class Work>
    race& add(std::string name, Work work, std::function<void()> before = {},
              std::function<void()> after = {}) {
        std::function<double()> timed;
        if constexpr (std::is_same_v<decltype(work()), double>)
            timed = std::move(work);
        else
            timed = [work = std::move(work)]() mutable { return seconds_of(work); };
        contenders_.push_back(
            {std::move(name), std::move(timed), std::move(before), std::move(after), {}, false});
        return *this;
    }

    /// Runs all rounds, after `warm_up` rounds that do not count.
    race& run(int warm_up = 1) {
        for (int round = -warm_up; round < of_.rounds(); ++round)
            for (entry& each : contenders_) {
                if (each.failed) continue;
                if (each.before) each.before();
                const double seconds = each.work();
                if (each.after) each.after();
                if (seconds < 0) {
                    each.failed = true;
                    of_.fail(case_name_ + ": " + each.name + " failed");
                } else if (round >= 0) {
                    each.seconds.push_back(seconds);
                }
            }
        return *this;
    }

    double seconds(const std::string& contender) const { return median(find(contender)); }
    /// How many times faster `contender` is than `other`: the median over the rounds.
    double ratio(const std::string& contender, const std::string& other) const {
        const auto &a = find(contender), &b = find(other);
        std::vector<double> ratios;
        for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i)
            ratios.push_back(b[i] / a[i]);
        return median(std::move(ratios));
    }

    /// Prints the table and records the medians. With a limit, also prints each rate as a share of
    /// it.
    void report(const unit& in, const std::string& limit = {}) const {
        std::printf("%s: median of %d rounds, distance of the quartiles\n", case_name_.c_str(),
                    of_.rounds());
        for (const entry& each : contenders_) {
            if (each.failed) continue;
            std::vector<double> values;
            for (const double s : each.seconds) values.push_back(in.of(s));
            std::printf("  %-44s %9.*f %s ± %.*f", each.name.c_str(), digits(median(values)),
                        median(values), in.name.c_str(), digits(median(values)), spread(values));
            if (!limit.empty() && each.name != limit)
                std::printf("   %.2f of %s", ratio(each.name, limit), limit.c_str());
            std::printf("\n");
            of_.record(each.name, case_name_, median(values), in.name, spread(values));
        }
        std::fflush(stdout);
    }

private:
    struct entry {
        std::string name;
        std::function<double()> work;
        std::function<void()> before, after;
        std::vector<double> seconds;
        bool failed = false;
    };
    static int digits(double value) {
        return value < 0.1 ? 4 : value < 10 ? 2 : value < 1000 ? 1 : 0;
    }
    const std::vector<double>& find(const std::string& name) const {
        static const std::vector<double> none;
        for (const entry& each : contenders_)
            if (each.name == name) return each.seconds;
        return none;
    }

    program& of_;
    std::string case_name_;
    std::vector<entry> contenders_;
};

/// Contenders in Python: peers.py beside this file. It keeps running and is asked once per round,
/// so that it takes turns with ours. A question is one line of words separated by tabs. An answer
/// is numbers, or the word missing or failed with the reason.
class python_peer {
public:
    struct answer {
        std::vector<double> numbers;
        std::string missing, failed;
    };

    explicit python_peer([[maybe_unused]] const program& of) {
#if defined(__unix__) || defined(__APPLE__)
        if (of.python().empty()) return;
        int to[2], from[2];
        if (::pipe(to) != 0) return;
        if (::pipe(from) != 0) return;
        std::signal(SIGPIPE,
                    SIG_IGN);  // if Python cannot start, no answer comes
        child_ = ::fork();
        if (child_ == 0) {
            ::dup2(to[0], 0);
            ::dup2(from[1], 1);
            for (const int each : {to[0], to[1], from[0], from[1]}) ::close(each);
            const std::string script =
                (std::filesystem::path{__FILE__}.parent_path() / "peers.py").string();
            ::execlp(of.python().c_str(), of.python().c_str(), "-B", script.c_str(),
                     static_cast<char*>(nullptr));
            ::_exit(127);
        }
        ::close(to[0]);
        ::close(from[1]);
        if (child_ < 0) return;
        to_ = ::fdopen(to[1], "w");
        from_ = ::fdopen(from[0], "r");
#endif
    }
    python_peer(const python_peer&) = delete;
    python_peer& operator=(const python_peer&) = delete;
    ~python_peer() {
        if (to_ != nullptr) std::fclose(to_);
        if (from_ != nullptr) std::fclose(from_);
#if defined(__unix__) || defined(__APPLE__)
        if (child_ > 0) ::waitpid(child_, nullptr, 0);
#endif
    }

    answer ask(const std::vector<std::string>& words) {
        if (to_ == nullptr || from_ == nullptr)
            return {{}, "no Python was named: -DPYTHON or --python", {}};
        std::string line;
        for (const std::string& word : words) line += (line.empty() ? "" : "\t") + word;
        line += '\n';
        if (std::fputs(line.c_str(), to_) < 0 || std::fflush(to_) != 0)
            return {{}, {}, "peers.py has ended"};
        std::string text;
        for (int c = std::fgetc(from_); c != '\n'; c = std::fgetc(from_)) {
            if (c == EOF) return {{}, {}, "peers.py has ended"};
            text += static_cast<char>(c);
        }
        answer out;
        if (text.starts_with("missing ")) {
            out.missing = text.substr(8);
        } else if (text.starts_with("failed ")) {
            out.failed = text.substr(7);
        } else {
            char* at = text.data();
            for (char* end = at;; at = end) {
                const double number = std::strtod(at, &end);
                if (end == at) break;
                out.numbers.push_back(number);
            }
        }
        return out;
    }

    /// Adds a contender to a race; its seconds are the first number of the answer. If it cannot
    /// take part, the program reports that.
    void enter(program& of, race& into, const std::string& contender,
               const std::vector<std::string>& words) {
        const answer first = ask(words);
        if (!first.missing.empty() || !first.failed.empty() || first.numbers.empty()) {
            of.missing(contender, !first.missing.empty()  ? first.missing
                                  : !first.failed.empty() ? first.failed
                                                          : "no answer");
            return;
        }
        into.add(contender, [this, words]() -> double {
            const answer got = ask(words);
            return got.numbers.empty() ? -1.0 : got.numbers[0];
        });
    }

private:
    std::FILE* to_ = nullptr;
    std::FILE* from_ = nullptr;
#if defined(__unix__) || defined(__APPLE__)
    pid_t child_ = -1;
#endif
};

}  // namespace measure

#endif
