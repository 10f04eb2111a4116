// The shape of the library itself: folders, includes, macros, words that must not occur. DESIGN.md's rules, held against the text
// of include/.
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

// The folders of include/safefuse, in the order in which they build on each other, and what each may
// include beside itself: DESIGN.md "The house". A header in a folder's detail/ follows its folder.
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
    {"detect", {"core", "tensor", "plan", "models"}},
    {"read", {"core", "tensor", "io", "format"}},
    {"run", {"core", "tensor", "plan"}},
    {"write", {"core", "tensor", "io", "format", "layout", "plan", "models", "detect", "read", "run"}},
    {"interop", {"core", "tensor"}},
};
// Headers at the top: what each brings in is said by its own tests below.
const words umbrellas{"safefuse", "fwd", "read", "plan", "run", "write", "models"};
// Headers that nobody gets without asking: they cost more to compile, or need threads or a framework.
const words opt_in{"core/throwing", "run/parallel", "run/staged", "interop/dlpack", "interop/mdspan"};

const words light_headers{"bit", "concepts", "cstddef",     "cstdint",     "cstdlib", "cstring", "initializer_list",
                          "new", "span",     "string_view", "type_traits", "utility"};

// "safefuse/plan/detail/compose.hpp" -> "plan"; empty for the headers at the top.
std::string folder_of(const std::string& header) {
    const std::string path = header.substr(header.find('/') + 1);
    const auto slash = path.find('/');
    return slash == std::string::npos ? std::string{} : path.substr(0, slash);
}
// "safefuse/plan/plan.hpp" -> "plan/plan"
std::string stem_of(const std::string& header) {
    return header.substr(header.find('/') + 1, header.size() - header.find('/') - 1 - std::string_view{".hpp"}.size());
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
    std::string name;  // as it is included
    std::string text;
};
const std::vector<header_file>& headers() {
    static const auto all = [] {
        std::vector<header_file> found;
        const fs::path root = fs::path{SAFEFUSE_SOURCE_DIR} / "include";
        for (const auto& entry : fs::recursive_directory_iterator{root})
            if (entry.path().extension() == ".hpp")  // debuggers' views lie beside them
                found.push_back({entry.path().lexically_relative(root).generic_string(), read(entry.path())});
        std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
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

// What follows `directive` in the preprocessor lines of the text: the name between <> or "", or the first word.
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

// All headers of ours that `header` brings in, itself among them.
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

// The text without comments, and without what stands inside quotes.
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
        const auto next = std::find_if_not(end, code.end(), [](char c) { return c == ' ' || c == '\n'; });
        found.emplace_back(std::string{begin, end}, next == code.end() ? '\0' : *next);
        begin = end;
    }
    return found;
}

}  // namespace

TEST_CASE("structure: every header is in a folder and includes only what DESIGN.md's table allows the folder") {
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
            CHECK((folder_of(include) == rule->name || rule->may_include.contains(folder_of(include))));
        }
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

TEST_CASE("structure: the umbrella brings in every header but the opt-in ones, and no header includes an opt-in one") {
    const auto umbrella = reached_from("safefuse/safefuse.hpp");
    for (const header_file& header : headers()) {
        CAPTURE(header.name);
        if (is_opt_in(header.name))
            CHECK(!umbrella.contains(header.name));
        else if (!is_detail(header.name) && !is_umbrella(header.name))
            CHECK(umbrella.contains(header.name));
        for (const auto& include : includes(header.text)) {
            CAPTURE(include);
            CHECK(!is_opt_in(include));
        }
    }
}

TEST_CASE("structure: each umbrella brings in all public headers of its folders") {
    const std::vector<std::pair<std::string, words>> folders{{"read", {"read", "format", "io", "tensor"}},
                                                              {"plan", {"plan", "layout", "tensor"}},
                                                              {"models", {"models", "detect"}},
                                                              {"run", {"run"}},
                                                              {"write", {"write"}}};
    for (const auto& [umbrella, contents] : folders) {
        const auto reached = reached_from("safefuse/" + umbrella + ".hpp");
        for (const header_file& header : headers()) {
            CAPTURE(umbrella);
            CAPTURE(header.name);
            if (contents.contains(folder_of(header.name)) && !is_detail(header.name) && !is_opt_in(header.name))
                CHECK(reached.contains(header.name));
        }
    }
}

TEST_CASE("structure: layout, plan, models, detect and run bring in no file, JSON or OS header") {
    for (const header_file& header : headers()) {
        if (!words{"layout", "plan", "models", "detect", "run"}.contains(folder_of(header.name))) continue;
        for (const auto& reached : reached_from(header.name)) {
            CAPTURE(header.name);
            CAPTURE(reached);
            CHECK(!words{"io", "format", "read", "write"}.contains(folder_of(reached)));
        }
    }
}

TEST_CASE("structure: no name of detail:: is in an example, a README or a page") {
    for (const auto& entry : fs::recursive_directory_iterator{fs::path{SAFEFUSE_SOURCE_DIR} / "examples"})
        if (entry.path().extension() == ".cpp" || entry.path().extension() == ".hpp" || entry.path().extension() == ".md") {
            CAPTURE(entry.path().string());
            CHECK(read(entry.path()).find("detail::") == std::string::npos);
        }
    CHECK(read(fs::path{SAFEFUSE_SOURCE_DIR} / "README.md").find("detail::") == std::string::npos);
    for (const auto& entry : fs::recursive_directory_iterator{fs::path{SAFEFUSE_SOURCE_DIR} / "include"})
        if (entry.path().extension() == ".md") CHECK(read(entry.path()).find("detail::") == std::string::npos);
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

TEST_CASE("structure: only light standard headers are included, and OS headers only in detail/os*") {
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
    const words banned{"throw",  "try",          "catch",  "assert",  "abort", "exit",  "_Exit",  "quick_exit", "terminate",
                       "typeid", "dynamic_cast", "printf", "fprintf", "puts",  "fputs", "perror", "cout",       "cerr"};
    for (const header_file& header : headers()) {
        if (header.name == "safefuse/core/throwing.hpp") continue;
        CAPTURE(header.name);
        for (const auto& found : words_of(code_of(header.text))) {
            CAPTURE(found.first);
            CHECK(!banned.contains(found.first));
            const bool is_plain_new = found.first == "new" && found.second != '(' && found.second != '>';  // #include <new>
            CHECK_MESSAGE(!is_plain_new, "a new without std::nothrow throws");
        }
    }
}

TEST_CASE("structure: macros begin with SAFEFUSE_, guards follow the file's name") {
    for (const header_file& header : headers()) {
        CAPTURE(header.name);
        std::string guard = header.name;
        std::transform(guard.begin(), guard.end(), guard.begin(),
                       [](unsigned char c) { return std::isalnum(c) != 0 ? static_cast<char>(std::toupper(c)) : '_'; });
        CHECK(header.text.find("#ifndef " + guard + "\n#define " + guard + "\n") != std::string::npos);
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

// Two files of one program may be compiled with different flags; what depends on those would then be defined in two ways.
TEST_CASE("structure: no condition asks for what the files of one program may differ in, but in opt-in headers") {
    const words banned{"NDEBUG",        "_DEBUG",      "DEBUG",         "__cpp_exceptions", "__EXCEPTIONS", "__GXX_RTTI",
                       "__cpp_rtti",    "_CPPUNWIND",  "_CPPRTTI",      "__cplusplus",      "__OPTIMIZE__", "__AVX__",
                       "__AVX2__",      "__AVX512F__", "__SSE4_2__",    "__SSSE3__",        "__F16C__",     "__BMI2__",
                       "__has_include", "_OPENMP",     "__FAST_MATH__", "__cpp_lib_mdspan"};
    for (const header_file& header : headers()) {
        if (is_opt_in(header.name)) continue;
        CAPTURE(header.name);
        for (const std::string& line : lines(header.text)) {
            if (!line.starts_with("#if") && !line.starts_with("#elif")) continue;
            if (line.find("_MSVC_LANG : __cplusplus") != std::string::npos) continue;  // C++20 or an error
            for (const auto& found : words_of(line)) {
                CAPTURE(found.first);
                CHECK(!banned.contains(found.first));
                CHECK((!found.first.starts_with("SAFEFUSE_") || found.first.ends_with("_HPP")));
            }
        }
    }
}

namespace {

// A function that may be longer than most_lines, and why.
struct long_function {
    std::string_view header;
    std::string_view name;
    std::string_view reason;
};
constexpr long_function long_functions[]{
    {"safefuse/core/result.hpp", "sentence", "a table: one case for each errc"},
};
constexpr std::ptrdiff_t most_lines = 50;

struct function_body {
    std::string head;  // what stands before its brace
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
// The functions of a header, by matching braces.
std::vector<function_body> functions_of(const std::string& text) {
    std::string code;
    for (const std::string& line : lines(code_of(text))) code += line.starts_with('#') ? "\n" : line + '\n';
    std::vector<function_body> found;
    struct brace {
        std::string head;
        std::size_t at;
        bool is_value;  // = {}, f({...}): no block, and the head goes on behind it
    };
    std::vector<brace> open;
    std::size_t begin = 0;
    for (std::size_t i = 0; i < code.size(); ++i) {
        if (code[i] == '{') {
            const auto before = i == 0 ? std::string::npos : code.find_last_not_of(" \n", i - 1);
            const bool is_value = before != std::string::npos &&
                                  std::string_view{"=(,"}.find(code[before]) != std::string_view::npos;
            open.push_back({code.substr(begin, i - begin), i, is_value});
            if (!is_value) begin = i + 1;
        } else if (code[i] == '}' && !open.empty()) {
            const brace first = open.back();
            open.pop_back();
            if (first.is_value) continue;
            begin = i + 1;
            const auto at = [&](std::size_t n) { return code.begin() + static_cast<std::ptrdiff_t>(n); };
            if (is_function(first.head))
                found.push_back({first.head, 1 + std::count(at(first.at), at(i), '\n')});
        } else if (code[i] == ';') {
            begin = i + 1;
        }
    }
    return found;
}

}  // namespace

TEST_CASE("structure: no function is longer than 50 lines but tables, which are listed with the reason") {
    std::size_t functions = 0;
    std::set<std::string> excused;
    for (const header_file& header : headers())
        for (const function_body& each : functions_of(header.text)) {
            ++functions;
            if (each.lines <= most_lines) continue;
            bool listed = false;
            for (const long_function& known : long_functions) {
                const std::string call = std::string{known.name} + "(";
                if (header.name != known.header || each.head.find(call) == std::string::npos) continue;
                listed = true;
                excused.insert(std::string{known.name});
            }
            CHECK_MESSAGE(listed, header.name << ": " << each.lines << " lines: " << each.head);
        }
    CHECK(functions > 500);
    CHECK_MESSAGE(excused.size() == std::size(long_functions), "an exception is no longer needed");
}

TEST_CASE("structure: CMakeLists.txt lists the headers in include, sorted") {
    const auto cmake = read(fs::path{SAFEFUSE_SOURCE_DIR} / "CMakeLists.txt");
    std::vector<std::string> listed;
    for (const auto& line : lines(cmake))
        if (line.starts_with("    include/safefuse/")) listed.push_back(line.substr(std::string_view{"    include/"}.size()));
    std::vector<std::string> present;
    std::string lines;
    for (const header_file& header : headers()) {
        present.push_back(header.name);
        lines += "    include/" + header.name + "\n";
    }
    CHECK_MESSAGE(listed == present, "the list should read:\n" << lines);
}

// Without it cmake -P runs by the rules of its oldest version: 3.25 then takes IN_LIST for a word of no meaning.
TEST_CASE("structure: every CMake script begins with cmake_minimum_required") {
    std::size_t scripts = 0;
    for (const char* folder : {"examples", "tests"})
        for (const auto& entry : fs::recursive_directory_iterator{fs::path{SAFEFUSE_SOURCE_DIR} / folder}) {
            if (entry.path().extension() != ".cmake") continue;
            ++scripts;
            const auto all = lines(read(entry.path()));
            const auto first =
                std::find_if_not(all.begin(), all.end(), [](const auto& line) { return line.empty() || line[0] == '#'; });
            CAPTURE(entry.path().string());
            REQUIRE(first != all.end());
            CHECK(first->starts_with("cmake_minimum_required(VERSION 3.24)"));
        }
    CHECK(scripts > 0);
}

#define TEXT_OF_MACRO(macro) #macro
#define TEXT_OF(macro) TEXT_OF_MACRO(macro)

TEST_CASE("structure: the inline namespace follows the version") {
    CHECK(std::string{TEXT_OF(SAFEFUSE_ABI)} == "v" TEXT_OF(SAFEFUSE_VERSION_MAJOR) "_" TEXT_OF(SAFEFUSE_VERSION_MINOR));
}

TEST_CASE("structure: Visual Studio's views name this version's classes and members that they have") {
    const auto natvis = read(fs::path{SAFEFUSE_SOURCE_DIR} / "include/safefuse/safefuse.natvis");
    REQUIRE(!natvis.empty());
    std::string code;
    for (const char* header : {"core/vector", "core/span", "core/text", "core/result", "tensor/tensor_view"})
        code += code_of(find_header("safefuse/" + std::string{header} + ".hpp")->text);
    std::size_t members = 0;
    for (const auto& found : words_of(natvis)) {
        CAPTURE(found.first);
        if (found.first.size() > 1 && found.first[0] == 'v' && std::isdigit(static_cast<unsigned char>(found.first[1])) != 0)
            CHECK(found.first == TEXT_OF(SAFEFUSE_ABI));
        if (!found.first.ends_with('_')) continue;
        ++members;
        const auto words = words_of(code);
        CHECK(std::any_of(words.begin(), words.end(), [&](const auto& word) { return word.first == found.first; }));
    }
    CHECK(members > 0);
}
