// Draws the results that the benchmarks wrote with --json, and joins them.
//
//     benchmark_chart CHART.svg SCALING.svg RESULTS.json IN.json...
//
// Equal results give equal files, byte for byte. Colours follow the reader's choice of light or
// dark.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <safefuse/format/detail/json_cursor.hpp>

namespace sf = safefuse;

namespace {

struct line {
    std::string benchmark, contender, case_name, unit, missing;
    double value = 0, spread = 0;
};

bool read_lines(const std::string& json, std::vector<line>& out) {
    sf::detail::json_cursor cursor{json};
    sf::detail::json_string key, value;
    for (cursor.enter_array(); cursor.next_element();) {
        line made;
        for (cursor.enter_object(); cursor.next_member(key);) {
            std::string* const text = key == "benchmark"   ? &made.benchmark
                                      : key == "contender" ? &made.contender
                                      : key == "case"      ? &made.case_name
                                      : key == "unit"      ? &made.unit
                                      : key == "missing"   ? &made.missing
                                                           : nullptr;
            double* const number = key == "value"    ? &made.value
                                   : key == "spread" ? &made.spread
                                                     : nullptr;
            const char* const first = cursor.here();
            if (text != nullptr && cursor.read_string(value)) {
                sf::vector<char> decoded;
                if (!value.decode(decoded)) return false;
                text->assign(decoded.data(), decoded.size());
            } else if (text == nullptr && cursor.skip_value() && number != nullptr) {
                *number = std::strtod(
                    std::string(first, cursor.here()).c_str() + (*first == ':' ? 1 : 0), nullptr);
            }
        }
        out.push_back(std::move(made));
    }
    return !cursor.failed() && cursor.finish();
}

/// The text after `key` in the first line of a file that begins with it.
std::string find_in_file(const char* path, std::string_view key, char separator) {
    std::ifstream file{path};
    for (std::string text; std::getline(file, text);)
        if (text.starts_with(key)) {
            std::string found = text.substr(text.find(separator) + 1);
            found.erase(0, found.find_first_not_of(" \t\""));
            found.erase(found.find_last_not_of(" \t\"") + 1);
            return found;
        }
    return {};
}

/// Processor, cores, memory, OS and compiler, as far as known.
std::string machine() {
    std::string processor = find_in_file("/proc/cpuinfo", "model name", ':');
    if (processor.empty()) processor = "unknown processor";
    const std::string memory = find_in_file("/proc/meminfo", "MemTotal", ':'),
                      system = find_in_file("/etc/os-release", "PRETTY_NAME", '=');
    std::string out =
        processor + ", " + std::to_string(std::thread::hardware_concurrency()) + " cores";
    if (!memory.empty())
        out += ", " +
               std::to_string((std::strtoull(memory.c_str(), nullptr, 10) + (1 << 19)) >> 20) +
               " GiB";
    if (!system.empty()) out += ", " + system;
#if defined(__clang__)
    out += ", clang " + std::to_string(__clang_major__) + "." + std::to_string(__clang_minor__);
#elif defined(__GNUC__)
    out += ", g++ " + std::to_string(__GNUC__) + "." + std::to_string(__GNUC_MINOR__);
#endif
    return out;
}

std::string escaped(std::string_view characters) {
    std::string out;
    for (const char c : characters)
        out += c == '&'   ? "&amp;"
               : c == '<' ? "&lt;"
               : c == '>' ? "&gt;"
               : c == '"' ? "&quot;"
                          : std::string(1, c);
    return out;
}

std::string json_text(std::string_view characters) {
    std::string out = "\"";
    for (const char c : characters)
        out += c == '"' || c == '\\' ? std::string{'\\', c} : std::string(1, c);
    return out + "\"";
}

/// A number with three significant digits.
std::string short_number(double value) {
    char digits[32];
    const double size = std::fabs(value);
    std::snprintf(digits, sizeof digits,
                  size >= 100  ? "%.0f"
                  : size >= 10 ? "%.1f"
                               : "%.2f",
                  value);
    return digits;
}

std::string coordinate(double value) {
    char digits[32];
    std::snprintf(digits, sizeof digits, "%.1f", value);
    return digits;
}

/// One picture, drawn from top to bottom.
class picture {
public:
    explicit picture(double width) : width_{width} {}

    void text(double x, double y, std::string_view characters, const char* style,
              const char* anchor = "start") {
        body_ += "<text class=\"" + std::string{style} + "\" x=\"" + coordinate(x) + "\" y=\"" +
                 coordinate(y) + "\" text-anchor=\"" + anchor + "\">" + escaped(characters) +
                 "</text>\n";
    }
    void bar(double x, double y, double width, double height, const char* style) {
        body_ += "<rect class=\"" + std::string{style} + "\" x=\"" + coordinate(x) + "\" y=\"" +
                 coordinate(y) + "\" width=\"" + coordinate(std::max(width, 1.0)) + "\" height=\"" +
                 coordinate(height) + "\" rx=\"2\"/>\n";
    }
    void stroke(double x1, double y1, double x2, double y2, const std::string& style) {
        body_ += "<line class=\"" + style + "\" x1=\"" + coordinate(x1) + "\" y1=\"" +
                 coordinate(y1) + "\" x2=\"" + coordinate(x2) + "\" y2=\"" + coordinate(y2) +
                 "\"/>\n";
    }
    void path(const std::string& points, const std::string& style) {
        body_ += "<polyline class=\"" + style + "\" points=\"" + points + "\"/>\n";
    }
    void dot(double x, double y, const std::string& style) {
        body_ += "<circle class=\"" + style + "\" cx=\"" + coordinate(x) + "\" cy=\"" +
                 coordinate(y) + "\" r=\"3\"/>\n";
    }

    bool write(const std::string& file, double height) const {
        std::ofstream out{file, std::ios::binary};
        const std::string w = coordinate(width_), h = coordinate(height);
        out << "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " << w << ' ' << h
            << "\" width=\"" << w << "\" height=\"" << h << "\" role=\"img\">\n"
            << "<style>\n"
               "text{font:13px system-ui,-apple-system,'Segoe UI','DejaVu "
               "Sans',sans-serif;fill:#1f2328}.title{font-size:15px;font-weight:600}"
               ".small{font-size:11px;fill:#59636e}\n"
               ".ground{fill:#ffffff;stroke:#d1d9e0}.ours{fill:#0969da}.limit{fill:#c8d1da}"
               ".peer{fill:#818b98}.axis{stroke:#d1d9e0;stroke-width:1}.value{font-size:12px}\n"
               ".ours-text{font-weight:600}polyline{fill:none;stroke-width:2}\n"
               ".s0{stroke:#0969da}.s1{stroke:#1a7f37}.s2{stroke:#9a6700}.s3{stroke:#cf222e}"
               ".s4{stroke:#8250df}.s5{stroke:#59636e}\n"
               ".f0{fill:#0969da}.f1{fill:#1a7f37}.f2{fill:#9a6700}.f3{fill:#cf222e}"
               ".f4{fill:#8250df}.f5{fill:#59636e}\n"
               "@media (prefers-color-scheme:dark){text{fill:#f0f6fc}"
               ".small{fill:#9198a1}.ground{fill:#0d1117;stroke:#3d444d}"
               ".ours{fill:#4493f8}.limit{fill:#3d444d}.peer{fill:#7d8590}"
               ".axis{stroke:#3d444d}.s0{stroke:#4493f8}.s1{stroke:#3fb950}"
               ".s2{stroke:#d29922}.s3{stroke:#f85149}.s4{stroke:#ab7df8}.s5{stroke:#9198a1}"
               ".f0{fill:#4493f8}.f1{fill:#3fb950}.f2{fill:#d29922}.f3{fill:#f85149}"
               ".f4{fill:#ab7df8}.f5{fill:#9198a1}}\n"
               "</style>\n<rect class=\"ground\" x=\"0.5\" y=\"0.5\" width=\""
            << coordinate(width_ - 1) << "\" height=\"" << coordinate(height - 1)
            << "\" rx=\"6\"/>\n"
            << body_ << "</svg>\n";
        return static_cast<bool>(out.flush());
    }

private:
    double width_;
    std::string body_;
};

/// What the chart shows: one case of each benchmark, the last whose name begins with the given
/// text.
struct panel {
    const char* benchmark;
    const char* case_begins;
    const char* title;
    const char* limits[4];
};
constexpr panel panels[] = {
    {"header", "", "Header to a checked table", {"memcpy", "simdjson DOM, tape"}},
    {"open", "open", "Open a checkpoint, held against its index", {"read index"}},
    {"fuse",
     "concat and stack, experts of 3 MiB",
     "Fuse experts of 3 MiB, BF16, page cache warm, reused memory",
     {"memcpy", "streaming", "memset"}},
    {"convert", "BF16 to F32", "Cast BF16 to F32, bytes written", {"memset", "streaming"}},
    {"rewrite",
     "until it is on the disk",
     "Rewrite a checkpoint, until it is on the disk",
     {"copy_file_range", "read and write", "write from"}},
};

bool is_limit(const panel& of, const std::string& contender) {
    return std::any_of(std::begin(of.limits), std::end(of.limits), [&](const char* each) {
        return each != nullptr && contender.starts_with(each);
    });
}

bool draw_chart(const std::string& file, const std::vector<line>& lines) {
    constexpr double width = 860, left = 300, right = 110, row = 22;
    picture picture{width};
    double y = 30;
    picture.text(20, y, "safefuse beside its peers: medians of one run", "title");
    y += 18;
    picture.text(20, y, machine(), "small");
    y += 16;
    picture.text(20, y, "blue: safefuse; grey: peers; pale: limits, which do less", "small");
    for (const panel& each : panels) {
        // timings only: for rates more is better, for costs less
        const auto belongs = [&](const line& at) {
            return at.benchmark == each.benchmark && at.missing.empty() &&
                   at.case_name.starts_with(each.case_begins) &&
                   (at.unit == "GB/s" || at.unit == "ms" || at.unit == "ns per tensor");
        };
        std::string case_name, unit;
        for (const line& at : lines)
            if (belongs(at) && (case_name.empty() || at.benchmark == "header"))
                case_name = at.case_name, unit = at.unit;
        std::vector<line> shown;
        double most = 0;
        for (const line& at : lines)
            if (belongs(at) && at.case_name == case_name && at.unit == unit) {
                shown.push_back(at);
                most = std::max(most, at.value);
            }
        if (shown.empty()) continue;
        const bool is_rate = unit == "GB/s";
        std::stable_sort(shown.begin(), shown.end(), [&](const line& a, const line& b) {
            return is_rate ? a.value > b.value : a.value < b.value;
        });
        y += 34;
        picture.text(20, y, each.title, "title");
        picture.text(width - 20, y, unit + (is_rate ? ", more is better" : ", less is better"),
                     "small", "end");
        y += 17;
        picture.text(20, y, case_name, "small");
        y += 8;
        for (const line& at : shown) {
            const bool ours = at.contender.starts_with("safefuse");
            picture.text(left - 10, y + 15, at.contender, ours ? "ours-text" : "", "end");
            const double size = (width - left - right) * at.value / most;
            picture.bar(left, y + 3, size, row - 6,
                        ours                           ? "ours"
                        : is_limit(each, at.contender) ? "limit"
                                                       : "peer");
            picture.text(left + size + 8, y + 15,
                         short_number(at.value) + " ± " + short_number(at.spread), "value");
            y += row;
        }
    }
    return picture.write(file, y + 20);
}

/// The cost of a step as a function of its input size. The case is "1000 tensors"; the slope in the
/// log-log plot is the exponent.
struct curve {
    std::vector<std::pair<double, double>> points;
    double exponent() const {
        double n = 0, x = 0, y = 0, xx = 0, xy = 0;
        for (const auto& [a, b] : points) {
            const double u = std::log(a), v = std::log(b);
            n += 1, x += u, y += v, xx += u * u, xy += u * v;
        }
        return (n * xy - x * y) / (n * xx - x * x);
    }
};

bool draw_scaling(const std::string& file, const std::vector<line>& lines) {
    std::vector<std::string> things;  // in the order of the runs
    std::map<std::string, std::vector<std::string>> steps;
    std::map<std::pair<std::string, std::string>, curve> curves;
    for (const line& at : lines) {
        if (at.benchmark != "scaling" || !at.missing.empty() || at.unit != "ms") continue;
        const std::size_t space = at.case_name.find(' ');
        if (space == std::string::npos) continue;
        const std::string thing = at.case_name.substr(space + 1);
        if (std::find(things.begin(), things.end(), thing) == things.end()) things.push_back(thing);
        auto& names = steps[thing];
        if (std::find(names.begin(), names.end(), at.contender) == names.end())
            names.push_back(at.contender);
        curves[{thing, at.contender}].points.emplace_back(
            std::strtod(at.case_name.c_str(), nullptr), at.value);
    }
    if (things.empty()) return true;
    constexpr double width = 860, plot_width = 430, plot_height = 230, left = 70;
    picture picture{width};
    double y = 30;
    picture.text(20, y, "What each step costs as checkpoints grow", "title");
    y += 18;
    picture.text(20, y, machine(), "small");
    y += 16;
    picture.text(
        20, y,
        "both axes logarithmic; the number behind a name is the fitted exponent: 1 is linear",
        "small");
    for (const std::string& thing : things) {
        double least_x = 1e300, most_x = 0, least_y = 1e300, most_y = 0;
        for (const std::string& step : steps[thing])
            for (const auto& [a, b] : curves[{thing, step}].points) {
                least_x = std::min(least_x, a), most_x = std::max(most_x, a);
                least_y = std::min(least_y, b), most_y = std::max(most_y, b);
            }
        const double low = std::floor(std::log10(least_y)),
                     high = std::max(std::ceil(std::log10(most_y)), low + 1);
        const double first = std::log10(least_x), last = std::max(std::log10(most_x), first + 0.1);
        const auto at_x = [&](double value) {
            return left + plot_width * (std::log10(value) - first) / (last - first);
        };
        const auto at_y = [&](double value) {
            return y + 24 + plot_height * (1 - (std::log10(value) - low) / (high - low));
        };
        y += 20;
        picture.text(20, y + 8, "ms, by " + thing, "small");
        for (double power = low; power <= high; power += 1) {
            const double value = std::pow(10, power);
            picture.stroke(left, at_y(value), left + plot_width, at_y(value), "axis");
            char digits[32];
            std::snprintf(digits, sizeof digits, "%g", value);
            picture.text(left - 8, at_y(value) + 4, digits, "small", "end");
        }
        for (const auto& [value, ignored] : curves[{thing, steps[thing][0]}].points) {
            char digits[32];
            std::snprintf(digits, sizeof digits, "%g", value);
            if (value >= 1e6)
                std::snprintf(digits, sizeof digits, "%.3gM", value / 1e6);
            else if (value >= 1e4)
                std::snprintf(digits, sizeof digits, "%gk", std::round(value / 1e3));
            picture.text(at_x(value), y + 24 + plot_height + 16, digits, "small", "middle");
        }
        double key_y = y + 40;
        std::size_t number = 0;
        for (const std::string& step : steps[thing]) {
            const curve& drawn = curves[{thing, step}];
            const std::string style = std::to_string(number++ % 6);
            std::string points;
            for (const auto& [a, b] : drawn.points) {
                points += coordinate(at_x(a)) + "," + coordinate(at_y(b)) + " ";
                picture.dot(at_x(a), at_y(b), "f" + style);
            }
            picture.path(points, "s" + style);
            picture.stroke(left + plot_width + 24, key_y - 4, left + plot_width + 44, key_y - 4,
                           "s" + style);
            std::string_view name{step};
            if (name.starts_with("safefuse, ")) name.remove_prefix(10);
            picture.text(left + plot_width + 52, key_y,
                         std::string{name} +
                             (drawn.points.size() > 1 ? ", " + short_number(drawn.exponent()) : ""),
                         "");
            key_y += 22;
        }
        y += plot_height + 50;
    }
    return picture.write(file, y + 10);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 5)
        return std::fprintf(
                   stderr,
                   "usage: benchmark_chart CHART.svg SCALING.svg RESULTS.json IN.json...\n"),
               2;
    std::vector<line> lines;
    for (int i = 4; i < argc; ++i) {
        std::ifstream file{argv[i], std::ios::binary};
        const std::string json{std::istreambuf_iterator<char>{file}, {}};
        if (!read_lines(json, lines))
            std::fprintf(stderr, "%s is left out: it holds no results\n", argv[i]);
    }
    std::ofstream results{argv[3], std::ios::binary};
    results << "{\"machine\": " << json_text(machine()) << ", \"results\": [";
    for (std::size_t i = 0; i < lines.size(); ++i) {
        const line& at = lines[i];
        char numbers[96];
        std::snprintf(numbers, sizeof numbers, "\"value\": %.6g, \"unit\": ", at.value);
        results << (i == 0 ? "\n" : ",\n") << "{\"benchmark\": " << json_text(at.benchmark)
                << ", \"contender\": " << json_text(at.contender);
        if (!at.missing.empty()) {
            results << ", \"missing\": " << json_text(at.missing) << "}";
            continue;
        }
        results << ", \"case\": " << json_text(at.case_name) << ", " << numbers
                << json_text(at.unit);
        std::snprintf(numbers, sizeof numbers, ", \"spread\": %.6g}", at.spread);
        results << numbers;
    }
    results << "\n]}\n";
    const bool good = results.flush() && draw_chart(argv[1], lines) && draw_scaling(argv[2], lines);
    if (!good) std::fprintf(stderr, "error: the charts cannot be written\n");
    return good ? 0 : 1;
}
