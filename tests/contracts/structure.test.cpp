// The structure of the library: folders, includes, macros, forbidden words. Compares the text of
// include/ with the rules in DESIGN.md.
#include <safefuse/core/version.hpp>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

namespace {

namespace fs = std::filesystem;
using words = std::set<std::string>;

// The folders of include/safefuse in dependency order, and what each may include besides itself:
// DESIGN.md "The house". A header in a folder's detail/ follows the same rule.
struct folder_rule {
    std::string name;
    words may_include;
};
const std::vector<folder_rule> house{
    {"core", {}},
    {"tensor", {"core"}},
    {"io", {"core", "tensor"}},
    {"format", {"core", "tensor"}},
    {"layout", {"core", "tensor"}},
    {"plan", {"core", "tensor", "layout"}},
    {"models", {"core", "layout"}},
    {"detect", {"core", "tensor", "layout", "plan", "models"}},
    {"read", {"core", "tensor", "io", "format"}},
    {"run", {"core", "tensor", "plan"}},
    {"write",
     {"core", "tensor", "io", "format", "layout", "plan", "models", "detect", "read", "run"}},
    {"interop", {"core", "tensor"}},
};
// Headers at the top level; separate tests check what each includes.
const words umbrellas{"safefuse", "fwd", "read", "plan", "run", "write", "models"};
// Headers that nobody gets without asking: they cost more to compile, or need threads or a
// framework.
const words opt_in{"core/throwing", "run/convert",    "run/dequantize", "run/parallel",
                   "run/staged",    "interop/dlpack", "interop/mdspan"};

const words light_headers{"bit",     "concepts",    "cstddef",          "cstdint",
                          "cstdlib", "cstring",     "initializer_list", "new",
                          "span",    "string_view", "type_traits",      "utility"};

// "safefuse/plan/detail/compose.hpp" -> "plan"; empty for headers at the top level.
std::string folder_of(const std::string& header) {
    const std::string path = header.substr(header.find('/') + 1);
    const auto slash = path.find('/');
    return slash == std::string::npos ? std::string{} : path.substr(0, slash);
}
// "safefuse/plan/plan.hpp" -> "plan/plan"
std::string stem_of(const std::string& header) {
    return header.substr(header.find('/') + 1,
                         header.size() - header.find('/') - 1 - std::string_view{".hpp"}.size());
}
bool is_detail(const std::string& header) { return header.find("/detail/") != std::string::npos; }
bool is_umbrella(const std::string& header) { return umbrellas.contains(stem_of(header)); }
bool is_opt_in(const std::string& header) { return opt_in.contains(stem_of(header)); }
const folder_rule* rule_of(const std::string& header) {
    for (const folder_rule& rule : house)
        if (rule.name == folder_of(header)) return &rule;
    return nullptr;
}

std::string read(const fs::path& path) {
    std::ifstream in{path, std::ios::binary};
    return {std::istreambuf_iterator<char>{in}, {}};
}

struct header_file {
    std::string name;  // as in an #include
    std::string text;
};
const std::vector<header_file>& headers() {
    static const auto all = [] {
        std::vector<header_file> found;
        const fs::path root = fs::path{SAFEFUSE_SOURCE_DIR} / "include";
        // the folder also contains debugger views
        for (const auto& entry : fs::recursive_directory_iterator{root})
            if (entry.path().extension() == ".hpp")
                found.push_back(
                    {entry.path().lexically_relative(root).generic_string(), read(entry.path())});
        std::sort(found.begin(), found.end(),
                  [](const auto& a, const auto& b) { return a.name < b.name; });
        return found;
    }();
    return all;
}
const header_file* find_header(const std::string& name) {
    for (const header_file& header : headers())
        if (header.name == name) return &header;
    return nullptr;
}

std::vector<std::string> lines(const std::string& text) {
    std::istringstream in{text};
    std::vector<std::string> found;
    for (std::string line; std::getline(in, line);) found.push_back(line);
    return found;
}

// The arguments of `directive` in the preprocessor lines of a text: the name between <> or "", or
// the first word.
words arguments(const std::string& text, std::string_view directive) {
    words found;
    for (std::string line : lines(text)) {
        std::erase_if(line, [](char c) { return c == ' ' || c == '\t' || c == '<' || c == '"'; });
        if (!line.starts_with("#" + std::string{directive})) continue;
        line.erase(0, directive.size() + 1);
        found.insert(line.substr(0, line.find_first_of(">(")));
    }
    return found;
}

words includes(const std::string& text) { return arguments(text, "include"); }
bool is_ours(const std::string& include) { return include.starts_with("safefuse/"); }

// All of our headers that `header` includes, directly or not, and itself.
void reach(const std::string& header, words& seen) {
    if (!seen.insert(header).second) return;
    const header_file* file = find_header(header);
    if (file == nullptr) return;
    for (const auto& next : includes(file->text))
        if (is_ours(next)) reach(next, seen);
}
words reached_from(const std::string& header) {
    words seen;
    reach(header, seen);
    return seen;
}

// The text without comments and without the content of literals.
std::string code_of(const std::string& text) {
    std::string code;
    for (std::size_t i = 0; i < text.size();) {
        const std::string_view rest = std::string_view{text}.substr(i);
        const bool after_word = i > 0 && std::isalnum(static_cast<unsigned char>(text[i - 1])) != 0;
        if (rest.starts_with("//")) {
            i = std::min(text.find('\n', i), text.size());
        } else if (rest.starts_with("/*")) {
            i = std::min(text.find("*/", i + 2), text.size() - 2) + 2;
        } else if (rest[0] == '"' || (rest[0] == '\'' && !after_word)) {  // 1'000 is a number
            const char quote = rest[0];
            for (++i; i < text.size() && text[i] != quote; ++i)
                if (text[i] == '\\') ++i;
            ++i;
            code.append(2, quote);
        } else {
            code.push_back(text[i++]);
        }
    }
    return code;
}

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

// Every word of the code, with the character that follows it.
std::vector<std::pair<std::string, char>> words_of(const std::string& code) {
    std::vector<std::pair<std::string, char>> found;
    for (auto begin = code.begin(); begin != code.end();) {
        begin = std::find_if(begin, code.end(), is_word);
        const auto end = std::find_if_not(begin, code.end(), is_word);
        const auto next =
            std::find_if_not(end, code.end(), [](char c) { return c == ' ' || c == '\n'; });
        found.emplace_back(std::string{begin, end}, next == code.end() ? '\0' : *next);
        begin = end;
    }
    return found;
}

}  // namespace

TEST_CASE(
    "structure: every header is in a folder and includes only what DESIGN.md's table allows the "
    "folder") {
    REQUIRE(!headers().empty());
    for (const header_file& header : headers()) {
        if (is_umbrella(header.name)) continue;
        CAPTURE(header.name);
        const folder_rule* const rule = rule_of(header.name);
        REQUIRE_MESSAGE(rule != nullptr, "give its folder a row in `house`");
        for (const auto& include : includes(header.text)) {
            if (!is_ours(include)) continue;
            CAPTURE(include);
            CHECK(find_header(include) != nullptr);
            CHECK((folder_of(include) == rule->name ||
                   rule->may_include.contains(folder_of(include))));
        }
    }
}

TEST_CASE("structure: include/safefuse/README.md shows the same table") {
    const auto page = lines(read(fs::path{SAFEFUSE_SOURCE_DIR} / "include/safefuse/README.md"));
    CHECK(page.size() <= 140);
    for (const folder_rule& rule : house) {
        std::vector<words> rows;
        const std::string start = "| `" + rule.name + "/` |";
        for (const std::string& line : page) {
            if (!line.starts_with(start)) continue;
            std::istringstream cell{
                line.substr(start.size(), line.find('|', start.size()) - start.size())};
            rows.emplace_back(std::istream_iterator<std::string>{cell},
                              std::istream_iterator<std::string>{});
        }
        CAPTURE(rule.name);
        REQUIRE(rows.size() == 1);
        CHECK(rows[0] == rule.may_include);
    }
}

TEST_CASE("structure: the folders build on each other in one direction") {
    for (std::size_t i = 0; i < house.size(); ++i)
        for (const std::string& below : house[i].may_include) {
            CAPTURE(house[i].name);
            CAPTURE(below);
            bool is_earlier = false;
            for (std::size_t j = 0; j < i; ++j) is_earlier = is_earlier || house[j].name == below;
            CHECK(is_earlier);
        }
}

TEST_CASE("structure: no header includes itself by a detour") {
    for (const header_file& header : headers())
        for (const auto& include : includes(header.text)) {
            CAPTURE(header.name);
            CAPTURE(include);
            CHECK(!reached_from(include).contains(header.name));
        }
}

TEST_CASE(
    "structure: the umbrella brings in every header but the opt-in ones, and no header includes "
    "an opt-in one") {
    const auto umbrella = reached_from("safefuse/safefuse.hpp");
    for (const header_file& header : headers()) {
        CAPTURE(header.name);
        if (is_opt_in(header.name))
            CHECK(!umbrella.contains(header.name));
        else if (!is_detail(header.name) && !is_umbrella(header.name))
            CHECK(umbrella.contains(header.name));
        for (const auto& include : includes(header.text)) {
            CAPTURE(include);
            CHECK((!is_opt_in(include) || is_opt_in(header.name)));
        }
    }
}

TEST_CASE("structure: each umbrella brings in all public headers of its folders") {
    const std::vector<std::pair<std::string, words>> folders{
        {"read", {"read", "format", "io", "tensor"}},
        {"plan", {"plan", "layout", "tensor"}},
        {"models", {"models", "detect"}},
        {"run", {"run"}},
        {"write", {"write"}}};
    for (const auto& each : folders) {
        const std::string& umbrella = each.first;
        const words& contents = each.second;
        const auto reached = reached_from("safefuse/" + umbrella + ".hpp");
        for (const header_file& header : headers()) {
            CAPTURE(umbrella);
            CAPTURE(header.name);
            if (contents.contains(folder_of(header.name)) && !is_detail(header.name) &&
                !is_opt_in(header.name))
                CHECK(reached.contains(header.name));
        }
    }
}

TEST_CASE("structure: layout, plan, models, detect and run bring in no file, JSON or OS header") {
    for (const header_file& header : headers()) {
        if (!words{"layout", "plan", "models", "detect", "run"}.contains(folder_of(header.name)))
            continue;
        for (const auto& reached : reached_from(header.name)) {
            CAPTURE(header.name);
            CAPTURE(reached);
            CHECK(!words{"io", "format", "read", "write"}.contains(folder_of(reached)));
        }
    }
}

TEST_CASE("structure: no name of detail:: is in an example, a README or a page") {
    for (const auto& entry :
         fs::recursive_directory_iterator{fs::path{SAFEFUSE_SOURCE_DIR} / "examples"})
        if (entry.path().extension() == ".cpp" || entry.path().extension() == ".hpp" ||
            entry.path().extension() == ".md") {
            CAPTURE(entry.path().string());
            CHECK(read(entry.path()).find("detail::") == std::string::npos);
        }
    CHECK(read(fs::path{SAFEFUSE_SOURCE_DIR} / "README.md").find("detail::") == std::string::npos);
    for (const auto& entry :
         fs::recursive_directory_iterator{fs::path{SAFEFUSE_SOURCE_DIR} / "include"})
        if (entry.path().extension() == ".md")
            CHECK(read(entry.path()).find("detail::") == std::string::npos);
}

TEST_CASE("structure: every header begins with its licence and copyright") {
    for (const header_file& header : headers()) {
        CAPTURE(header.name);
        CHECK(header.text.starts_with("// SPDX-License-Identifier: MIT\n// Copyright (c) "));
    }
}

TEST_CASE("structure: namespaces open one on a line, so that tools can read them") {
    for (const header_file& header : headers()) {
        CAPTURE(header.name);
        CHECK(header.text.find("namespace safefuse::") == std::string::npos);
    }
}

TEST_CASE(
    "structure: only light standard headers are included, and OS headers only in detail/os*") {
    for (const header_file& header : headers()) {
        if (is_opt_in(header.name) || header.name.find("/detail/os") != std::string::npos) continue;
        for (const auto& include : includes(header.text)) {
            CAPTURE(header.name);
            CAPTURE(include);
            CHECK((is_ours(include) || light_headers.contains(include)));
        }
    }
}

TEST_CASE("structure: nothing throws, asserts, aborts, prints or exits, but throwing.hpp") {
    const words banned{"throw",   "try",        "catch",     "assert", "abort",        "exit",
                       "_Exit",   "quick_exit", "terminate", "typeid", "dynamic_cast", "printf",
                       "fprintf", "puts",       "fputs",     "perror", "cout",         "cerr"};
    for (const header_file& header : headers()) {
        if (header.name == "safefuse/core/throwing.hpp") continue;
        CAPTURE(header.name);
        for (const auto& found : words_of(code_of(header.text))) {
            CAPTURE(found.first);
            CHECK(!banned.contains(found.first));
            const bool is_plain_new = found.first == "new" && found.second != '(' &&
                                      found.second != '>';  // #include <new>
            CHECK_MESSAGE(!is_plain_new, "a new without std::nothrow throws");
        }
    }
}

TEST_CASE("structure: macros begin with SAFEFUSE_, guards follow the file's name") {
    for (const header_file& header : headers()) {
        CAPTURE(header.name);
        std::string guard = header.name;
        std::transform(guard.begin(), guard.end(), guard.begin(), [](unsigned char c) {
            return std::isalnum(c) != 0 ? static_cast<char>(std::toupper(c)) : '_';
        });
        CHECK(header.text.find("#ifndef " + guard + "\n#define " + guard + "\n") !=
              std::string::npos);
        for (const auto& macro : arguments(header.text, "define")) {
            CAPTURE(macro);
            CHECK(macro.starts_with("SAFEFUSE_"));
        }
    }
}

TEST_CASE("structure: no header says `using namespace`") {
    for (const header_file& header : headers()) {
        CAPTURE(header.name);
        const auto found = words_of(code_of(header.text));
        for (std::size_t i = 1; i < found.size(); ++i)
            CHECK_FALSE((found[i - 1].first == "using" && found[i].first == "namespace"));
    }
}

// The files of one program may be compiled with different flags. Code that depends on them would be
// defined in two ways.
TEST_CASE(
    "structure: only opt-in headers have conditions that can differ between the files of one "
    "program") {
    const words banned{"NDEBUG",        "_DEBUG",          "DEBUG",         "__cpp_exceptions",
                       "__EXCEPTIONS",  "__GXX_RTTI",      "__cpp_rtti",    "_CPPUNWIND",
                       "_CPPRTTI",      "__cplusplus",     "__OPTIMIZE__",  "__AVX__",
                       "__AVX2__",      "__AVX512F__",     "__SSE4_2__",    "__SSSE3__",
                       "__F16C__",      "__BMI2__",        "__has_include", "_OPENMP",
                       "__FAST_MATH__", "__cpp_lib_mdspan"};
    for (const header_file& header : headers()) {
        if (is_opt_in(header.name)) continue;
        CAPTURE(header.name);
        for (const std::string& line : lines(header.text)) {
            if (!line.starts_with("#if") && !line.starts_with("#elif")) continue;
            if (line.find("_MSVC_LANG : __cplusplus") != std::string::npos)
                continue;  // C++20 or an error
            for (const auto& found : words_of(line)) {
                CAPTURE(found.first);
                CHECK(!banned.contains(found.first));
                CHECK((!found.first.starts_with("SAFEFUSE_") || found.first.ends_with("_HPP")));
            }
        }
    }
}

namespace {

// A function that may be longer than most_lines, and the reason.
struct long_function {
    std::string_view header;
    std::string_view name;
    std::string_view reason;
};
constexpr long_function long_functions[]{
    {"safefuse/core/result.hpp", "sentence", "a table: one case for each errc"},
    {"safefuse/core/result.hpp", "name", "a table: one case for each errc"},
};
constexpr std::ptrdiff_t most_lines = 50;

struct function_body {
    std::string head;  // the text before its brace
    std::ptrdiff_t lines;
};
bool is_function(const std::string& head) {
    const auto found = words_of(head);
    if (found.empty() || head.find('(') == std::string::npos) return false;
    const std::set<std::string> others{"if",    "for",    "while",     "switch", "do",   "else",
                                       "class", "struct", "namespace", "enum",   "union"};
    if (others.contains(found[0].first)) return false;
    const auto last = head.find_last_not_of(" \n");
    return head[last] != '=' && head[last] != ',' && head.find("namespace ") == std::string::npos;
}
// The functions of a header, found by matching braces.
std::vector<function_body> functions_of(const std::string& text) {
    std::string code;
    for (const std::string& line : lines(code_of(text)))
        code += line.starts_with('#') ? "\n" : line + '\n';
    std::vector<function_body> found;
    struct brace {
        std::string head;
        std::size_t at;
        bool is_value;  // = {}, f({...}): not a block; the head continues after it
    };
    std::vector<brace> open;
    std::size_t begin = 0;
    for (std::size_t i = 0; i < code.size(); ++i) {
        if (code[i] == '{') {
            const auto before = i == 0 ? std::string::npos : code.find_last_not_of(" \n", i - 1);
            const bool is_value =
                before != std::string::npos &&
                std::string_view{"=(,"}.find(code[before]) != std::string_view::npos;
            open.push_back({code.substr(begin, i - begin), i, is_value});
            if (!is_value) begin = i + 1;
        } else if (code[i] == '}' && !open.empty()) {
            const brace first = open.back();
            open.pop_back();
            if (first.is_value) continue;
            begin = i + 1;
            const auto at = [&](std::size_t n) {
                return code.begin() + static_cast<std::ptrdiff_t>(n);
            };
            if (is_function(first.head))
                found.push_back({first.head, 1 + std::count(at(first.at), at(i), '\n')});
        } else if (code[i] == ';') {
            begin = i + 1;
        }
    }
    return found;
}

}  // namespace

TEST_CASE(
    "structure: no function is longer than 50 lines but tables, which are listed with the reason") {
    std::size_t functions = 0;
    std::set<std::string> excused;
    for (const header_file& header : headers())
        for (const function_body& each : functions_of(header.text)) {
            ++functions;
            if (each.lines <= most_lines) continue;
            bool listed = false;
            for (const long_function& known : long_functions) {
                const std::string call = std::string{known.name} + "(";
                if (header.name != known.header || each.head.find(call) == std::string::npos)
                    continue;
                listed = true;
                excused.insert(std::string{known.name});
            }
            CHECK_MESSAGE(listed, header.name << ": " << each.lines << " lines: " << each.head);
        }
    CHECK(functions > 500);
    CHECK_MESSAGE(excused.size() == std::size(long_functions), "an exception is no longer needed");
}

namespace {

// A public declaration that may name detail::, and the reason.
struct excused_signature {
    std::string_view header;
    std::string_view start;  // of the declaration
    std::string_view reason;
};
constexpr excused_signature excused_signatures[]{
    {"safefuse/layout/layout.hpp", "template <std::size_t Axis, class... Term> struct concat :",
     "the base has no members but those that layout/README.md asks of every term"},
    {"safefuse/layout/layout.hpp",
     "template <std::size_t Axis, std::uint64_t Group, class... Term> struct interleave :",
     "as concat"},
};

// What the user of a header sees: the declarations in namespaces and in public and protected parts
// of classes, without function bodies, values of constants and member initialisers.
class signature_scan {
public:
    explicit signature_scan(const std::string& text) {
        bool is_directive = false;
        for (const std::string& line : lines(code_of(text))) {
            is_directive = is_directive || line.starts_with('#');
            if (!is_directive) code_ += line + '\n';
            is_directive = is_directive && line.ends_with('\\');
        }
        scope(false);
    }
    [[nodiscard]] const std::vector<std::string>& found() const { return found_; }

private:
    // The declarations up to the } that ends a namespace or class.
    void scope(bool is_hidden) {
        std::string head;
        while (at_ < code_.size()) {
            const char c = code_[at_];
            if (c == '}') {
                ++at_;
                return;
            }
            if (c == ';') {
                ++at_;
                if (!is_hidden) note(head);
                head.clear();
            } else if (c == '(') {
                const std::size_t begin = at_;
                skip('(', ')');
                head.append(code_, begin, at_ - begin);
            } else if (c == '{') {
                block(head, is_hidden);
                head.clear();
            } else if (c == ':' && is_access(head)) {
                ++at_;
                is_hidden = words_of(head)[0].first == "private";
                head.clear();
            } else {
                head += c;
                ++at_;
            }
        }
    }
    // Handles the block that a { begins after this head.
    void block(const std::string& head, bool is_hidden) {
        const auto found = words_of(without_template(head));
        const std::string first = found.empty() ? "" : found[0].first;
        const std::string second = found.size() < 2 ? "" : found[1].first;
        const bool is_type = (first == "class" || first == "struct" || first == "union") &&
                             head.find('=') == std::string::npos;
        if (first == "namespace" || (first == "inline" && second == "namespace")) {
            ++at_;
            scope(is_hidden || second == "detail");
        } else if (is_type) {
            if (!is_hidden) note(head);
            if (!is_hidden && class_depth_ == 0 && head.find("<>") == std::string::npos)
                types_.push_back(name_of(head));
            ++at_;
            ++class_depth_;
            scope_of_class(is_hidden, first == "class");
            --class_depth_;
        } else {
            const bool is_constructor = members_of(head) != std::string::npos;
            if (!is_hidden && class_depth_ == 0 && first == "enum") types_.push_back(name_of(head));
            if (!is_hidden) note(is_constructor ? head.substr(0, members_of(head)) : head);
            const auto last = head.find_last_not_of(" \n");
            bool is_value = is_constructor && last != std::string::npos &&
                            (is_word(head[last]) || head[last] == '>');
            skip('{', '}');
            while (is_value) {  // of a member: the body comes later
                const auto next = code_.find_first_of("({", at_);
                const auto before = code_.find_last_not_of(" \n", next - 1);
                is_value = is_word(code_[before]) || code_[before] == '>';
                at_ = next;
                skip(code_[next], code_[next] == '(' ? ')' : '}');
            }
        }
    }
    void scope_of_class(bool is_hidden, bool is_private) {
        if (!is_hidden) {
            scope(is_private);
            return;
        }
        --at_;
        skip('{', '}');
    }
    // Moves past the bracket that closes the one at at_.
    void skip(char opening, char closing) {
        std::size_t depth = 0;
        do {
            depth += code_[at_] == opening ? 1u : 0u;
            depth -= code_[at_] == closing ? 1u : 0u;
        } while (++at_ < code_.size() && depth != 0);
    }
    bool is_access(const std::string& head) const {
        const auto found = words_of(head);
        return found.size() == 1 &&
               (found[0].first == "public" || found[0].first == "private" ||
                found[0].first == "protected") &&
               code_[at_ + 1] != ':';
    }
    // The class or enumeration that a head declares, without final words: template <class T> class
    // a : b -> class a
    static std::string name_of(const std::string& head) {
        std::string name = without_template(head);
        for (std::size_t i = 0; i < name.size(); ++i)
            if (name[i] == ':' && name[i + 1] != ':' && (i == 0 || name[i - 1] != ':'))
                name.resize(i);
        std::string spaced;
        for (const auto& found : words_of(name))
            if (!found.first.empty() && !found.first.starts_with("SAFEFUSE_"))
                spaced += (spaced.empty() ? "" : " ") + found.first;
        return spaced;
    }
    // The position of the : before the member initialisers in the head of a constructor; npos if
    // there is none.
    static std::size_t members_of(const std::string& head) {
        const auto close = head.find(')');
        for (std::size_t i = close == std::string::npos ? head.size() : close; i < head.size();
             ++i) {
            if (head[i] != ':') continue;
            if (head[i + 1] == ':' || head[i - 1] == ':') continue;
            if (head.substr(0, i).find('?') != std::string::npos) continue;
            return i;
        }
        return std::string::npos;
    }
    static std::string without_template(const std::string& head) {
        auto begin = head.find_first_not_of(" \n");
        while (begin != std::string::npos && head.compare(begin, 8, "template") == 0) {
            std::size_t depth = 0, i = head.find('<', begin);
            if (i == std::string::npos) return head.substr(begin);
            do {
                depth += head[i] == '<' ? 1u : 0u;
                depth -= head[i] == '>' ? 1u : 0u;
            } while (++i < head.size() && depth != 0);
            begin = head.find_first_not_of(" \n", i);
        }
        return begin == std::string::npos ? std::string{} : head.substr(begin);
    }
    // The declaration without the value of a constant or concept.
    static std::string without_value(const std::string& head) {
        const std::string body = without_template(head);
        if (body.starts_with("using")) return head;
        std::size_t parentheses = 0, angles = 0;
        for (std::size_t i = head.size() - body.size(); i < head.size(); ++i) {
            const char c = head[i];
            parentheses += c == '(' ? 1u : 0u;
            parentheses -= c == ')' ? 1u : 0u;
            angles += c == '<' ? 1u : 0u;
            angles -= c == '>' && angles > 0 ? 1u : 0u;
            if (c == '=' && parentheses == 0 && angles == 0 &&
                head.find("operator") == std::string::npos)
                return head.substr(0, i);
        }
        return head;
    }
    // Whether this is the definition of a member that is declared in its class.
    static bool is_member(const std::string& signature) {
        const std::string body = without_template(signature);
        auto i = std::min(body.find('('), body.size());
        while (i > 0 && is_word(body[i - 1])) --i;
        return i > 2 && body.compare(i - 2, 2, "::") == 0 && body.find('(') != std::string::npos;
    }
    void note(const std::string& head) {
        const auto ends_with_delete = [&] {
            const auto last = head.find_last_not_of(" \n");
            return last != std::string::npos && head.substr(0, last + 1).ends_with("= delete");
        };
        std::string signature;
        for (const char c : without_value(head))
            if (!(c == '\n' || c == ' ') || (!signature.empty() && signature.back() != ' '))
                signature += c == '\n' ? ' ' : c;
        const auto found = words_of(without_template(signature));
        if (found.empty() || found[0].first == "static_assert") return;
        if (found[0].first == "friend" && (found[1].first == "class" || found[1].first == "struct"))
            return;
        ++count_;
        // An alias for a computed type: the type itself is public.
        const bool is_computed =
            found[0].first == "using" && signature.find("= typename detail::") != std::string::npos;
        // detail::owning_tensor_set selects the calls that are refused; such overloads are never
        // called.
        if (is_computed || ends_with_delete() || is_member(signature)) return;
        // A private base is not visible.
        static const std::string hidden_base = ": private detail::";
        if (const auto at = signature.find(hidden_base); at != std::string::npos)
            signature.erase(at, hidden_base.size());
        if (signature.find("detail::") != std::string::npos) found_.push_back(signature);
    }

public:
    [[nodiscard]] std::size_t count() const { return count_; }
    /// The classes and enumerations outside of classes: "class span", "enum class dtype".
    [[nodiscard]] const std::vector<std::string>& types() const { return types_; }

private:
    std::string code_;
    std::size_t at_ = 0;
    std::size_t count_ = 0;
    std::vector<std::string> found_;
    std::vector<std::string> types_;
    std::size_t class_depth_ = 0;
};

}  // namespace

TEST_CASE("structure: the scan of signatures sees what a user sees, and nothing else") {
    const auto found = [](const std::string& text) { return signature_scan{text}.found(); };
    const auto is_seen = [&](const std::string& text) { return found(text).size() == 1; };
    const auto in_class = [&](const std::string& text) {
        return is_seen("class a {\npublic:\n" + text + "\n};\n");
    };

    CHECK(is_seen("namespace s { detail::b f(int a = 1); }"));
    CHECK(is_seen("namespace s { inline int f(detail::b a) noexcept { return 1; } }"));
    CHECK(is_seen("inline int f(int a = detail::b{1}) { return 1; }"));
    CHECK(is_seen("template <detail::b T>\nint f(T);"));
    CHECK(is_seen("template <class T = detail::b>\nstruct a;"));
    CHECK(is_seen("struct a : detail::b {};"));
    CHECK(is_seen("class a : public detail::b {};"));
    CHECK(is_seen("struct a { detail::b c; };"));
    CHECK(is_seen("struct a { detail::b c{1}; };"));
    CHECK(is_seen("using a = detail::b;"));
    CHECK(is_seen("template <class T>\n    requires detail::b<T>\nint f(T t) { return 1; }"));
    CHECK(is_seen("inline constexpr detail::b c = 1;"));
    CHECK(in_class("a(detail::b x) noexcept : x_{x}, y_(1) {}"));
    CHECK(in_class("a() : x_{1} {}\n detail::b f();"));
    CHECK(in_class("protected:\nvoid f(detail::b);"));
    CHECK(in_class("private:\nint c;\npublic:\ndetail::b f();"));
    CHECK(in_class("struct c { detail::b d; };"));
    CHECK(in_class("bool operator==(const detail::b&) const;"));
    CHECK(in_class("friend bool operator==(const a&, const detail::b&) noexcept { return true; }"));
    CHECK(in_class("int f() { return 1; }\n[[nodiscard]] detail::b g() const { return 1; }"));

    const auto is_hidden = [&](const std::string& text) { return found(text).empty(); };
    CHECK(is_hidden("namespace detail { detail::b f(); }"));
    CHECK(is_hidden("namespace s { namespace detail { struct x { detail::b c; }; } int f(); }"));
    CHECK(is_hidden("inline int f() { return detail::b(); }"));
    CHECK(is_hidden("class a { detail::b c; struct d { detail::b e; }; };"));
    CHECK(
        is_hidden("class a {\npublic:\n a(int x) noexcept : x_{detail::b(x)}, y_{detail::c{x}} { "
                  "f(detail::b{}); }\n};"));
    CHECK(
        is_hidden("class a {\npublic:\n a(int x) noexcept\n : x_(detail::b(x)) {}\nprivate:\n"
                  " detail::b c_;\n};"));
    CHECK(is_hidden("class a : private detail::b {};"));
    CHECK(is_hidden("inline constexpr int a = detail::b;"));
    CHECK(is_hidden("template <class T>\nconcept a = detail::b<T>;"));
    CHECK(is_hidden("template <class T>\nconcept a = requires(T t) { detail::b(t); };"));
    CHECK(is_hidden("template <detail::b T>\nint f(const T&&) = delete;"));
    CHECK(is_hidden("template <class T>\nusing a = typename detail::b<T>::type;"));
    CHECK(is_hidden("static_assert(detail::b);"));
    CHECK(is_hidden("class a {\n friend class detail::b;\npublic:\n friend int detail::f();\n};"));
    CHECK(is_hidden("// detail::b f();\nint f();"));
    CHECK(is_hidden("inline int a::f(detail::b) { return 1; }"));
}

TEST_CASE("structure: no public signature names detail::") {
    std::size_t signatures = 0;
    std::set<std::string_view> used;
    for (const header_file& header : headers()) {
        if (is_detail(header.name)) continue;
        const signature_scan scan{header.text};
        signatures += scan.count();
        for (const std::string& signature : scan.found()) {
            bool is_excused = false;
            for (const excused_signature& each : excused_signatures) {
                if (header.name != each.header || !signature.starts_with(each.start)) continue;
                is_excused = true;
                used.insert(each.start);
            }
            CHECK_MESSAGE(is_excused, header.name << ": " << signature);
        }
    }
    CHECK(signatures > 1000);
    CHECK_MESSAGE(used.size() == std::size(excused_signatures), "an exception is no longer needed");
}

TEST_CASE(
    "structure: fwd.hpp names every class and enumeration but those of the layouts' language and "
    "of opt-in headers") {
    const header_file* const forward = find_header("safefuse/fwd.hpp");
    REQUIRE(forward != nullptr);
    const std::string declared = code_of(forward->text);
    std::size_t named = 0;
    for (const header_file& header : headers()) {
        if (is_detail(header.name) || is_opt_in(header.name) || is_umbrella(header.name)) continue;
        if (words{"layout", "models"}.contains(folder_of(header.name))) continue;
        const signature_scan scan{header.text};
        for (const std::string& type : scan.types()) {
            CAPTURE(header.name);
            CAPTURE(type);
            const bool is_there = declared.find("\n" + type + ";") != std::string::npos ||
                                  declared.find("\n" + type + " :") != std::string::npos;
            CHECK(is_there);
            named += is_there ? 1u : 0u;
        }
    }
    CHECK(named > 60);
}

TEST_CASE("structure: include/safefuse/CMakeLists.txt lists the headers, sorted") {
    const std::string_view folder = "safefuse/";
    const auto cmake = read(fs::path{SAFEFUSE_SOURCE_DIR} / "include/safefuse/CMakeLists.txt");
    std::vector<std::string> listed;
    for (const auto& line : lines(cmake))
        if (line.starts_with("    ") && line.ends_with(".hpp"))
            listed.push_back(std::string{folder} + line.substr(4));
    std::vector<std::string> present;
    std::string expected;
    for (const header_file& header : headers()) {
        present.push_back(header.name);
        expected += "    " + header.name.substr(folder.size()) + "\n";
    }
    CHECK_MESSAGE(listed == present, "the list should read:\n" << expected);
}

// Without it, cmake -P uses the rules of its oldest version: 3.25 then takes IN_LIST for an unknown
// word.
TEST_CASE("structure: every CMake script begins with cmake_minimum_required") {
    std::size_t scripts = 0;
    for (const char* folder : {"examples", "tests"})
        for (const auto& entry :
             fs::recursive_directory_iterator{fs::path{SAFEFUSE_SOURCE_DIR} / folder}) {
            if (entry.path().extension() != ".cmake") continue;
            ++scripts;
            const auto all = lines(read(entry.path()));
            const auto first = std::find_if_not(all.begin(), all.end(), [](const auto& line) {
                return line.empty() || line[0] == '#';
            });
            CAPTURE(entry.path().string());
            REQUIRE(first != all.end());
            CHECK(first->starts_with("cmake_minimum_required(VERSION 3.24)"));
        }
    CHECK(scripts > 0);
}

namespace {

/// The files that people write, without recorded data: paths from the top of the repository.
std::vector<std::string> written_files() {
    const fs::path root = SAFEFUSE_SOURCE_DIR;
    std::vector<std::string> found{"README.md", "CMakeLists.txt"};
    const words endings{".hpp", ".cpp", ".cu", ".py", ".cmake", ".sh", ".md", ".yml"};
    for (const char* folder : {"include", "examples", "tests", ".ci", ".github"})
        for (const auto& entry : fs::recursive_directory_iterator{root / folder}) {
            const std::string path = entry.path().lexically_relative(root).generic_string();
            const bool is_text = endings.contains(entry.path().extension().string()) ||
                                 entry.path().filename() == "CMakeLists.txt" ||
                                 path.starts_with(".ci/");
            if (entry.is_regular_file() && is_text && !path.starts_with("tests/data/"))
                found.push_back(path);
        }
    return found;
}

/// Columns of a line in UTF-8.
std::size_t columns(const std::string& line) {
    return static_cast<std::size_t>(std::count_if(line.begin(), line.end(), [](char c) {
        return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    }));
}

/// The targets of links on a page, and the files that it names in backticks: `tests/run.cmake`.
std::vector<std::string> named_on(const std::string& page) {
    std::vector<std::string> found;
    for (std::size_t at = page.find("]("); at != std::string::npos; at = page.find("](", at + 1)) {
        const std::string target = page.substr(at + 2, page.find(')', at) - at - 2);
        if (!target.starts_with("http")) found.push_back(target.substr(0, target.find('#')));
    }
    for (std::size_t at = page.find('`'); at != std::string::npos; at = page.find('`', at + 1)) {
        const std::string name = page.substr(at + 1, page.find('`', at + 1) - at - 1);
        const bool is_path = name.starts_with("tests/") || name.starts_with("examples/") ||
                             name.starts_with("include/") || name.starts_with(".ci/");
        if (is_path && name.find_first_of(" *<{\n") == std::string::npos)
            found.push_back("/" + name);
    }
    return found;
}

}  // namespace

TEST_CASE("structure: no line has more than 100 columns but tables, links and data") {
    std::size_t files = 0;
    for (const std::string& path : written_files()) {
        ++files;
        std::size_t number = 0;
        for (const std::string& line : lines(read(fs::path{SAFEFUSE_SOURCE_DIR} / path))) {
            ++number;
            const bool is_row = path.ends_with(".md") && line.starts_with("|");
            const bool is_link = line.find("https://") != std::string::npos;
            const bool is_data = line.find("R\"(") != std::string::npos;  // JSON in one piece
            if (is_row || is_link || is_data || columns(line) <= 100) continue;
            FAIL_CHECK(path << ":" << number << ": " << columns(line) << " columns");
        }
    }
    CHECK(files > 300);
}

TEST_CASE("structure: README has at most 140 lines, a lesson at most 60") {
    const fs::path root = SAFEFUSE_SOURCE_DIR;
    CHECK(lines(read(root / "README.md")).size() <= 140);
    for (const auto& entry : fs::directory_iterator{root / "examples/learn"}) {
        const std::string name = entry.path().filename().string();
        CAPTURE(name);
        const std::string text = read(entry.path());
        CHECK(lines(text).size() <= 60);
        CHECK_MESSAGE(lines(text).front().ends_with("?"), "a lesson begins with its question");
        const bool is_numbered = std::isdigit(static_cast<unsigned char>(name[0])) != 0;
        if (is_numbered)
            CHECK_MESSAGE(
                read(root / "examples/README.md").find("learn/" + name) != std::string::npos,
                "the tutorial in examples/README.md has no row for it");
    }
}

TEST_CASE("structure: what a page links to or names is there") {
    const fs::path root = SAFEFUSE_SOURCE_DIR;
    std::size_t targets = 0;
    for (const std::string& path : written_files()) {
        if (!path.ends_with(".md")) continue;
        for (const std::string& target : named_on(read(root / path))) {
            if (target.find(' ') != std::string::npos) continue;  // a lambda in a program
            ++targets;
            const fs::path file = target.starts_with("/") ? root / target.substr(1)
                                  : target.empty()        ? root / path
                                                          : (root / path).parent_path() / target;
            CHECK_MESSAGE(fs::exists(file), path << " names " << target);
        }
    }
    CHECK(targets > 50);
}

#define TEXT_OF_MACRO(macro) #macro
#define TEXT_OF(macro) TEXT_OF_MACRO(macro)

TEST_CASE("structure: the inline namespace follows the version") {
    CHECK(std::string{TEXT_OF(SAFEFUSE_ABI)} ==
          "v" TEXT_OF(SAFEFUSE_VERSION_MAJOR) "_" TEXT_OF(SAFEFUSE_VERSION_MINOR));
}

TEST_CASE(
    "structure: Visual Studio's views name this version's classes and members that they have") {
    const auto natvis = read(fs::path{SAFEFUSE_SOURCE_DIR} / "include/safefuse/safefuse.natvis");
    REQUIRE(!natvis.empty());
    std::string code;
    for (const char* header :
         {"core/vector", "core/span", "core/text", "core/result", "tensor/tensor_view"})
        code += code_of(find_header("safefuse/" + std::string{header} + ".hpp")->text);
    std::size_t members = 0;
    for (const auto& found : words_of(natvis)) {
        CAPTURE(found.first);
        if (found.first.size() > 1 && found.first[0] == 'v' &&
            std::isdigit(static_cast<unsigned char>(found.first[1])) != 0)
            CHECK(found.first == TEXT_OF(SAFEFUSE_ABI));
        if (!found.first.ends_with('_')) continue;
        ++members;
        const auto words = words_of(code);
        CHECK(std::any_of(words.begin(), words.end(),
                          [&](const auto& word) { return word.first == found.first; }));
    }
    CHECK(members > 0);
}
