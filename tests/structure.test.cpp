// The shape of the library itself: layers, includes, macros, words that must not occur. DESIGN.md's rules, held against the text
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

// The layers, 0 first: a header includes only what stands in its own row or above. A name that ends in '*' stands for all
// that begin so and have no place of their own. The last row is opt-in.
const std::vector<words> layers{
    {"version", "config", "detail/array", "detail/checked", "detail/copy_bytes", "detail/fingerprint", "detail/list",
     "detail/name_table", "detail/plain", "detail/transpose", "detail/utf8", "sequence"},
    {"text", "printable", "result", "dtype", "detail/number_codec"},
    {"slice", "tensor_view", "tensor_traits", "header", "detail/header_*", "detail/json_*", "fields", "layout", "detail/compose",
     "detail/layout_names", "rename", "family", "layouts/*"},
    {"byte_source", "shard_index", "tensor_set", "copy_plan", "plan_options", "detail/plan_*", "plan", "scopes", "detail/name_kinds", "layouts/known"},
    {"detail/os*", "mapped_file", "huge_page_buffer", "detail/strided_copy", "fuse", "detail/staged_job", "convert"},
    {"tensor_file", "checkpoint"},
    {"writer", "checkpoint_writer", "rewrite_plan", "detail/rewrite_run", "detail/source_files", "repack", "replace", "rewrite",
     "model_config"},
    {"safefuse"},
    {"throwing", "dlpack", "mdspan", "parallel", "staged"},
};
const words light_headers{"bit", "concepts", "cstddef",     "cstdint",     "cstdlib", "cstring", "initializer_list",
                          "new", "span",     "string_view", "type_traits", "utility"};

// The row of a header; -1: it has none yet.
int layer_of(const std::string& header) {
    int by_prefix = -1;
    for (std::size_t layer = 0; layer < layers.size(); ++layer)
        for (const std::string& name : layers[layer]) {
            if (header == "safefuse/" + name + ".hpp") return static_cast<int>(layer);
            if (name.back() == '*' && header.starts_with("safefuse/" + name.substr(0, name.size() - 1)))
                by_prefix = static_cast<int>(layer);
        }
    return by_prefix;
}
const int opt_in = static_cast<int>(layers.size()) - 1;

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

TEST_CASE("structure: every header has a layer and includes only equal or lower ones") {
    REQUIRE(!headers().empty());
    for (const header_file& header : headers()) {
        CAPTURE(header.name);
        CHECK_MESSAGE(layer_of(header.name) >= 0, "give it a row in `layers`");
        for (const auto& include : includes(header.text)) {
            if (!is_ours(include)) continue;
            CAPTURE(include);
            CHECK(find_header(include) != nullptr);
            CHECK(layer_of(include) <= layer_of(header.name));
        }
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
        const bool is_detail = header.name.starts_with("safefuse/detail/");
        if (layer_of(header.name) == opt_in)
            CHECK(!umbrella.contains(header.name));
        else if (!is_detail)
            CHECK(umbrella.contains(header.name));
        for (const auto& include : includes(header.text)) {
            CAPTURE(include);
            CHECK((layer_of(include) != opt_in || layer_of(header.name) == opt_in));
        }
    }
}

TEST_CASE("structure: layout, plan and fuse bring in no file, JSON or OS header") {
    for (const char* header : {"safefuse/layout/layout.hpp", "safefuse/plan/plan.hpp", "safefuse/run/fuse.hpp"})
        for (const auto& reached : reached_from(header)) {
            CAPTURE(header);
            CAPTURE(reached);
            for (const char* part :
                 {"detail/json", "detail/header", "detail/os", "/header.hpp", "file.hpp", "checkpoint.hpp", "shard_index.hpp"})
                CHECK(reached.find(part) == std::string::npos);
        }
}

TEST_CASE("structure: only light standard headers are included, and OS headers only in detail/os*") {
    for (const header_file& header : headers()) {
        if (layer_of(header.name) == opt_in || header.name.starts_with("safefuse/detail/os")) continue;
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
        if (layer_of(header.name) == opt_in) continue;
        CAPTURE(header.name);
        for (const std::string& line : lines(header.text)) {
            if (!line.starts_with("#if") && !line.starts_with("#elif")) continue;
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
    for (const char* header : {"detail/array", "sequence", "text", "result", "tensor_view"})
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
