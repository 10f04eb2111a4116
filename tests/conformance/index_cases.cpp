// The conformance suite for checkpoints with many files: shard indexes, and directories without
// one.
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pieces.hpp"
#include "suite.hpp"

namespace conformance {

namespace detail {
namespace {

/// A tensor file with one-byte tensors of these names.
std::string shard(const std::vector<std::string>& names) {
    std::vector<std::string> entries;
    for (std::size_t i = 0; i < names.size(); ++i) entries.push_back(bytes(names[i], i, i + 1));
    return header_suite::framed(object(entries), names.size());
}

class index_suite {
public:
    /// Adds a directory without an index, or with an index among its files.
    index_case& directory(std::optional<errc> refusal, std::string name, std::string reason,
                          std::map<std::string, std::string> files,
                          std::map<std::string, std::string> tensors = {}) {
        cases_.push_back({std::move(name), std::move(reason), {}, refusal, std::move(tensors)});
        for (auto& [file, contents] : files)
            cases_.back().files["checkpoint/" + file] = std::move(contents);
        return cases_.back();
    }
    /// Adds an index next to a.safetensors, which contains a and b, and b.safetensors, which
    /// contains b and c. The same files are also in the parent directory and in a subdirectory.
    index_case& index(std::optional<errc> refusal, std::string name, std::string reason,
                      std::string json, std::map<std::string, std::string> tensors = {}) {
        index_case& made = directory(refusal, std::move(name), std::move(reason),
                                     {{"model.safetensors.index.json", std::move(json)},
                                      {"a.safetensors", shard({"a", "b"})},
                                      {"b.safetensors", shard({"b", "c"})},
                                      {"below/a.safetensors", shard({"a", "b"})}},
                                     std::move(tensors));
        made.files["a.safetensors"] = shard({"a", "b"});
        return made;
    }
    std::vector<index_case> take() { return std::move(cases_); }

private:
    std::vector<index_case> cases_;
};

std::string weight_map(std::string_view pairs) {
    return "{\"weight_map\": {" + std::string{pairs} + "}}";
}

void index_texts(index_suite& add) {
    const std::map<std::string, std::string> a{{"a", "a.safetensors"}};
    add.index({}, "index_minimal", "nothing but the weight_map",
              weight_map(R"("a": "a.safetensors")"), a);
    add.index(
        {}, "index_metadata", "metadata are free JSON",
        R"({"metadata": {"total_size": 1, "total_parameters": 1.5, "x": [null, {"y": true}]}, "weight_map": {"a": "a.safetensors"}})",
        a);
    add.index({}, "index_metadata_last", "keys in any order",
              R"({"weight_map": {"a": "a.safetensors"}, "metadata": {"total_size": 1}})", a);
    add.index({}, "index_metadata_null", "metadata may be anything",
              R"({"metadata": null, "weight_map": {"a": "a.safetensors"}})", a);
    add.index({}, "index_total_size_wrong", "total_size is a hint",
              R"({"metadata": {"total_size": 999}, "weight_map": {"a": "a.safetensors"}})", a);
    add.index({}, "index_total_size_text", "total_size is a hint",
              R"({"metadata": {"total_size": "1"}, "weight_map": {"a": "a.safetensors"}})", a);
    add.index({}, "index_total_size_negative", "total_size is a hint",
              R"({"metadata": {"total_size": -1}, "weight_map": {"a": "a.safetensors"}})", a);
    add.index(
        {}, "index_total_size_2pow64", "total_size is a hint",
        R"({"metadata": {"total_size": 18446744073709551616}, "weight_map": {"a": "a.safetensors"}})",
        a);
    add.index(
        {}, "index_unknown_keys", "keys that are not known are ignored",
        R"({"format": [1, {"weight_map": 2}], "weight_map": {"a": "a.safetensors"}, "x": null})",
        a);
    add.index({}, "index_space", "white space everywhere",
              " \r\n{ \"weight_map\"\t: { \"a\" : \"a.safetensors\" } } \n", a);
    add.index({}, "index_escapes", "names written with escapes",
              R"({"weight\u005fmap": {"\u0061": "\u0061.safetensors"}})", a);
    add.index({}, "index_some_unlisted", "what the index does not list can be left out",
              weight_map(R"("b": "b.safetensors")"), {{"b", "b.safetensors"}});
    add.index({}, "index_decides", "the index decides between two copies",
              weight_map(R"("a": "a.safetensors", "b": "b.safetensors")"),
              {{"a", "a.safetensors"}, {"b", "b.safetensors"}});
    add.index({}, "index_below", "a shard in a directory below",
              weight_map(R"("a": "below/a.safetensors")"), {{"a", "below/a.safetensors"}});
    add.index({}, "index_dot_slash", "a shard in this directory, spelled out",
              weight_map(R"("a": "./a.safetensors")"), {{"a", "./a.safetensors"}});
    add.index({}, "index_dot_slash_twice", "this directory of this directory",
              weight_map(R"("a": "././a.safetensors")"), {{"a", "././a.safetensors"}});
    add.index({}, "index_double_slash", "a separator twice",
              weight_map(R"("a": "below//a.safetensors")"), {{"a", "below//a.safetensors"}});
    {
        index_case& dots =
            add.index({}, "index_dots_in_name", "dots inside a name lead nowhere",
                      weight_map(R"("a": "a..b.safetensors", "b": "..c.safetensors")"),
                      {{"a", "a..b.safetensors"}, {"b", "..c.safetensors"}});
        dots.files["checkpoint/a..b.safetensors"] = shard({"a"});
        dots.files["checkpoint/..c.safetensors"] = shard({"b"});
        index_case& space =
            add.index({}, "index_space_in_name", "a space in a file's name",
                      weight_map(R"("a": "a b.safetensors")"), {{"a", "a b.safetensors"}});
        space.files["checkpoint/a b.safetensors"] = shard({"a"});
    }

    const auto bad_json = [&](std::string name, std::string reason, std::string json) {
        add.index(errc::bad_json, "index_" + std::move(name), std::move(reason), std::move(json));
    };
    const auto bad_index = [&](std::string name, std::string reason, std::string json) {
        add.index(errc::bad_index, "index_" + std::move(name), std::move(reason), std::move(json));
    };
    bad_json("empty", "an empty file", "");
    bad_json("only_space", "white space alone", " ");
    bad_json("unclosed", "an opening brace alone", "{");
    bad_json("unclosed_map", "a weight_map that does not end",
             R"({"weight_map": {"a": "a.safetensors")");
    bad_json("unclosed_string", "a file's name that does not end",
             R"({"weight_map": {"a": "a.safetensors}})");
    bad_json("trailing_comma", "a comma after the last tensor",
             R"({"weight_map": {"a": "a.safetensors",}})");
    bad_json("trailing_comma_root", "a comma after the last key",
             R"({"weight_map": {"a": "a.safetensors"},})");
    bad_json("junk_behind", "a character after the object",
             R"({"weight_map": {"a": "a.safetensors"}} x)");
    bad_json("object_behind", "a second object", R"({"weight_map": {"a": "a.safetensors"}}{})");
    bad_json("nul_behind", "a zero after the object",
             weight_map(R"("a": "a.safetensors")") + "\0"s);
    bad_json("single_quotes", "strings need double quotes",
             R"({"weight_map": {'a': 'a.safetensors'}})");
    bad_json("unquoted_key", "keys are strings", R"({"weight_map": {a: "a.safetensors"}})");
    bad_json("missing_colon", "no colon after a name", R"({"weight_map": {"a" "a.safetensors"}})");
    bad_json("missing_comma", "no comma between tensors",
             R"({"weight_map": {"a": "a.safetensors" "b": "a.safetensors"}})");
    bad_json("surrogate", "half a surrogate pair",
             R"({"weight_map": {"\ud800": "a.safetensors"}})");
    bad_json("bad_escape", "\\x is not an escape", R"({"weight_map": {"\x61": "a.safetensors"}})");
    bad_json("not_utf8", "not UTF-8", "{\"weight_map\": {\"a\xFF\": \"a.safetensors\"}}");
    bad_json("control", "a line end in a name", "{\"weight_map\": {\"a\n\": \"a.safetensors\"}}");
    bad_json("bom", "a byte order mark", "\xEF\xBB\xBF" + weight_map(R"("a": "a.safetensors")"));
    bad_json("nan", "NaN is not JSON", R"({"metadata": {"total_size": NaN}, "weight_map": {}})");
    bad_json("leading_zero", "JSON has no leading zeros",
             R"({"metadata": {"total_size": 01}, "weight_map": {}})");
    bad_json("comment", "JSON has no comments", "{\"metadata\": // none\n{}, \"weight_map\": {}}");
    bad_json("deep", "nesting without end", "{\"x\": " + std::string(100'000, '['));
    bad_index("root_array", "the root must be an object", "[]");
    bad_index("root_null", "the root must be an object", "null");
    bad_index("root_number", "the root must be an object", "3");
    bad_index("root_string", "the root must be an object", "\"weight_map\"");
    bad_index("no_map", "there must be a weight_map", "{}");
    bad_index("empty_map", "an index that lists nothing hides what is there", weight_map(""));
    bad_index("no_map_metadata", "there must be a weight_map",
              R"({"metadata": {"total_size": 3}})");
    bad_index("no_map_flat", "the weight_map is a key of its own", R"({"a": "a.safetensors"})");
    bad_index("map_null", "a weight_map is an object", R"({"weight_map": null})");
    bad_index("map_array", "a weight_map is an object", R"({"weight_map": []})");
    bad_index("map_string", "a weight_map is an object", R"({"weight_map": "a.safetensors"})");
    bad_index("file_number", "a file is a string", weight_map(R"("a": 1)"));
    bad_index("file_null", "a file is a string", weight_map(R"("a": null)"));
    bad_index("file_array", "a file is a string", weight_map(R"("a": ["a.safetensors"])"));
    bad_index("file_object", "a file is a string", weight_map(R"("a": {"file": "a.safetensors"})"));
    bad_index("file_number_behind", "a file is a string, also behind a good one",
              weight_map(R"("a": "a.safetensors", "b": 1)"));
    bad_index("two_maps", "a weight_map twice",
              R"({"weight_map": {"a": "a.safetensors"}, "weight_map": {"a": "a.safetensors"}})");
    bad_index("two_maps_other", "a weight_map twice, each with tensors of its own",
              R"({"weight_map": {"a": "a.safetensors"}, "weight_map": {"b": "b.safetensors"}})");
    bad_index("two_maps_empty", "a weight_map twice, once empty",
              R"({"weight_map": {"a": "a.safetensors"}, "weight_map": {}})");
    bad_index("duplicate_same", "a tensor twice",
              weight_map(R"("a": "a.safetensors", "a": "a.safetensors")"));
    bad_index("duplicate_other", "a tensor in two files: readers disagree on which",
              weight_map(R"("b": "a.safetensors", "b": "b.safetensors")"));
    bad_index(
        "duplicate_escaped", "the same, once written with an escape",
        weight_map(R"("b": "a.safetensors", "a": "a.safetensors", "\u0062": "b.safetensors")"));
    bad_index("ending_bin", "a shard must be a tensor file", weight_map(R"("a": "a.bin")"));
    bad_index("ending_index", "an index is not a tensor file",
              weight_map(R"("a": "a.safetensors.index.json")"));
    bad_index("ending_upper", "endings are case-sensitive", weight_map(R"("a": "a.SAFETENSORS")"));
    bad_index("ending_none", "a shard must be a tensor file", weight_map(R"("a": "a")"));
    bad_index("ending_behind", "a shard must be a tensor file",
              weight_map(R"("a": "a.safetensors.bak")"));
    bad_index("directory", "a directory is not a tensor file",
              weight_map(R"("a": "a.safetensors/")"));
    bad_index("dot", "this directory is not a tensor file", weight_map(R"("a": ".")"));

    const auto leaves = [&](std::string name, std::string reason, std::string file) {
        add.index(errc::path_leaves_directory, "path_" + std::move(name), std::move(reason),
                  weight_map("\"a\": \"" + file + "\""));
    };
    leaves("empty", "an empty name", "");
    leaves("parent", "leads one directory up", "../a.safetensors");
    leaves("parent_backslash", "a backslash separates on some systems", "..\\\\a.safetensors");
    leaves("parent_escaped", "written with escapes", "\\u002e\\u002e/a.safetensors");
    leaves("parent_escaped_slash", "written with an escaped slash", "..\\/a.safetensors");
    leaves("parent_after_dot", "leads up after a dot", "./../a.safetensors");
    leaves("down_and_up", "leads down, up and out", "below/../../a.safetensors");
    leaves("down_and_up_inside",
           "leads down and up again: refused, because a component may be a link",
           "below/../a.safetensors");
    leaves("down_and_up_backslash", "leads down, up and out with backslashes",
           "below\\\\..\\\\..\\\\a.safetensors");
    leaves("mixed_separators", "both separators", "below\\\\../..\\\\a.safetensors");
    leaves("parent_alone", "the directory above", "..");
    leaves("parent_at_end", "ends in the directory above", "a/..");
    leaves("parent_space", "a space that some systems drop", ".. /a.safetensors");
    leaves("parent_dots", "dots that some systems drop", "... /a.safetensors");
    leaves("absolute", "an absolute path", "/a.safetensors");
    leaves("absolute_etc", "an absolute path", "/etc/a.safetensors");
    leaves("absolute_backslash", "an absolute path on some systems", "\\\\a.safetensors");
    leaves("drive", "a drive letter", "C:\\\\a.safetensors");
    leaves("drive_slash", "a drive letter", "z:/a.safetensors");
    leaves("drive_first", "the first drive letter", "a:/a.safetensors");
    leaves("drive_last", "the last drive letter", "Z:\\\\a.safetensors");
    leaves("drive_relative", "a drive letter without a separator", "C:a.safetensors");
    leaves("server", "another machine", "//server/share/a.safetensors");
    leaves("server_backslash", "another machine", "\\\\\\\\server\\\\share\\\\a.safetensors");
    leaves("device", "a path that switches checks off on Windows",
           "\\\\\\\\?\\\\C:\\\\a.safetensors");
    leaves("nul_inside", "a zero, at which C ends a name", "a\\u0000.safetensors");
    leaves("nul_behind_name", "a zero after a good name", "a.safetensors\\u0000");
    leaves("newline", "a line end in a name", "a\\n.safetensors");
    leaves("terminal_escape", "what a terminal would obey", "\\u001b[2J.safetensors");
    leaves("unit_separator", "the last control character below the space", "a\\u001f.safetensors");
    leaves("del", "a control character in a name", "\\u007f.safetensors");
    add.index(errc::path_leaves_directory, "path_second", "the first file is good",
              weight_map(R"("a": "a.safetensors", "b": "../a.safetensors")"));
}

void directories(index_suite& add) {
    using files = std::map<std::string, std::string>;
    const auto series = [](int number, int count) {
        const std::string n = std::to_string(number), c = std::to_string(count);
        return "model-" + std::string(5 - n.size(), '0') + n + "-of-" +
               std::string(5 - c.size(), '0') + c + ".safetensors";
    };
    const std::string index = "model.safetensors.index.json";
    const auto map_of = [](const files& tensors) {
        std::string pairs;
        for (const auto& [tensor, file] : tensors)
            pairs += (pairs.empty() ? "\"" : ", \"") + tensor + "\": \"" + file + "\"";
        return weight_map(pairs);
    };

    // With an index.
    const files two{{"a", series(1, 2)}, {"b", series(2, 2)}};
    add.directory(
        {}, "shards_sound", "two shards and their index",
        {{index, map_of(two)}, {series(1, 2), shard({"a"})}, {series(2, 2), shard({"b"})}}, two);
    add.directory(errc::missing_shard, "shard_missing", "a shard was not downloaded",
                  {{index, map_of(two)}, {series(1, 2), shard({"a"})}});
    add.directory(errc::missing_shard, "shards_all_missing", "an index alone",
                  {{index, map_of(two)}});
    add.directory(
        errc::tensor_not_in_shard, "tensor_not_in_shard",
        "the index names a tensor that its shard lacks",
        {{index, map_of(two)}, {series(1, 2), shard({"a"})}, {series(2, 2), shard({"c"})}});
    add.directory(
        errc::tensor_not_in_shard, "tensor_in_other_shard",
        "a tensor is in another shard than the index says",
        {{index, map_of(two)}, {series(1, 2), shard({"a", "b"})}, {series(2, 2), shard({"c"})}});
    add.directory({}, "stale_tensors",
                  "a shard that is used again holds tensors of the old checkpoint",
                  {{index, map_of(two)},
                   {series(1, 2), shard({"a", "old"})},
                   {series(2, 2), shard({"b", "a"})}},
                  two);
    add.directory({}, "overlay", "an overlay supersedes a tensor of the base",
                  {{index, map_of({{"a", "model-overlay-00001.safetensors"}, {"b", series(1, 1)}})},
                   {series(1, 1), shard({"a", "b"})},
                   {"model-overlay-00001.safetensors", shard({"a"})}},
                  {{"a", "model-overlay-00001.safetensors"}, {"b", series(1, 1)}});
    add.directory({}, "unused_file", "a file that the index does not name",
                  {{index, map_of(two)},
                   {series(1, 2), shard({"a"})},
                   {series(2, 2), shard({"b"})},
                   {"consolidated.safetensors", shard({"a", "b", "z"})}},
                  two);
    add.directory({}, "unused_broken_file", "a broken file that the index does not name",
                  {{index, map_of(two)},
                   {series(1, 2), shard({"a"})},
                   {series(2, 2), shard({"b"})},
                   {"broken.safetensors", "x"}},
                  two);
    add.directory({}, "two_splits_with_index", "two splits side by side, the index says which",
                  {{index, map_of(two)},
                   {series(1, 2), shard({"a"})},
                   {series(2, 2), shard({"b"})},
                   {series(1, 3), shard({"a"})},
                   {series(2, 3), shard({"b"})},
                   {series(3, 3), shard({"c"})}},
                  two);
    add.directory({}, "index_before_model", "an index goes before model.safetensors",
                  {{index, map_of(two)},
                   {series(1, 2), shard({"a"})},
                   {series(2, 2), shard({"b"})},
                   {"model.safetensors", shard({"z"})}},
                  two);
    const std::string whole = shard({"b"});
    const auto with_second = [&](std::optional<errc> refusal, std::string name, std::string reason,
                                 std::string second) {
        add.directory(refusal, std::move(name), std::move(reason),
                      {{index, map_of(two)},
                       {series(1, 2), shard({"a"})},
                       {series(2, 2), std::move(second)}});
    };
    with_second(errc::data_truncated, "shard_truncated", "a shard lacks its last byte",
                whole.substr(0, whole.size() - 1));
    with_second(errc::header_past_end, "shard_truncated_header", "a shard ends inside its header",
                whole.substr(0, whole.size() - 20));
    with_second(errc::header_too_short, "shard_empty", "a shard of no bytes", "");
    with_second(errc::trailing_bytes, "shard_too_long", "a shard with bytes after the last tensor",
                whole + "1234");
    with_second(errc::another_format, "shard_lfs_pointer", "a shard that git stored elsewhere",
                "version https://git-lfs.github.com/spec/v1\n");
    with_second(errc::header_not_json, "shard_zeros",
                "a shard of zeros, as a file system leaves it after a crash",
                std::string(whole.size(), '\0'));
    with_second(errc::duplicate_tensor, "shard_with_duplicate", "a shard with a tensor twice",
                header_suite::framed(object({bytes("b", 0, 1), bytes("b", 0, 1)}), 1));
    add.directory(errc::several_indexes, "two_indexes", "two indexes: which one counts?",
                  {{"one.safetensors.index.json", map_of(two)},
                   {"other.safetensors.index.json", map_of(two)},
                   {series(1, 2), shard({"a"})},
                   {series(2, 2), shard({"b"})}});

    // Without an index.
    add.directory({}, "single_model", "model.safetensors alone",
                  {{"model.safetensors", shard({"a"})}}, {{"a", "model.safetensors"}});
    add.directory({}, "single_other_name", "one tensor file of any name",
                  {{"adapter.safetensors", shard({"a"})}}, {{"a", "adapter.safetensors"}});
    add.directory({}, "model_before_others", "model.safetensors goes before other files",
                  {{"model.safetensors", shard({"a"})}, {"other.safetensors", shard({"b"})}},
                  {{"a", "model.safetensors"}});
    add.directory({}, "series_complete", "a complete series needs no index",
                  {{series(1, 2), shard({"a"})}, {series(2, 2), shard({"b"})}}, two);
    add.directory(
        {}, "series_from_0", "a series that counts from 0",
        {{"model-0-of-2.safetensors", shard({"a"})}, {"model-1-of-2.safetensors", shard({"b"})}},
        {{"a", "model-0-of-2.safetensors"}, {"b", "model-1-of-2.safetensors"}});
    add.directory({}, "series_of_1", "a series of one", {{series(1, 1), shard({"a"})}},
                  {{"a", series(1, 1)}});
    add.directory({}, "hidden_files", "files that begin with a dot are passed over",
                  {{"model.safetensors", shard({"a"})},
                   {"._model.safetensors", "x"},
                   {"._model.safetensors.index.json", "x"}},
                  {{"a", "model.safetensors"}});
    add.directory(errc::incomplete_series, "series_incomplete", "a series with a gap",
                  {{series(1, 3), shard({"a"})}, {series(3, 3), shard({"b"})}});
    add.directory(errc::incomplete_series, "series_last_missing", "a series without its end",
                  {{series(1, 2), shard({"a"})}});
    add.directory(errc::tensor_in_two_shards, "series_duplicate",
                  "the same tensor in two shards, and no index",
                  {{series(1, 2), shard({"a"})}, {series(2, 2), shard({"b", "a"})}});
    add.directory(errc::no_checkpoint, "two_splits", "two splits side by side, and no index",
                  {{series(1, 2), shard({"a"})},
                   {series(2, 2), shard({"b"})},
                   {series(1, 3), shard({"a"})},
                   {series(2, 3), shard({"b"})},
                   {series(3, 3), shard({"c"})}});
    add.directory(errc::no_checkpoint, "two_stems", "two series of different names",
                  {{"a-1-of-1.safetensors", shard({"a"})}, {"b-1-of-1.safetensors", shard({"b"})}});
    add.directory(errc::no_checkpoint, "several_files", "several files that are not a series",
                  {{"a.safetensors", shard({"a"})}, {"b.safetensors", shard({"b"})}});
    add.directory(errc::no_checkpoint, "no_files", "a directory without tensor files",
                  {{"config.json", "{}"}});
    add.directory(
        errc::data_truncated, "series_truncated", "a shard of a series lacks its last byte",
        {{series(1, 2), shard({"a"})}, {series(2, 2), whole.substr(0, whole.size() - 1)}});
}

}  // namespace
}  // namespace detail

std::vector<index_case> index_cases() {
    detail::index_suite add;
    detail::index_texts(add);
    detail::directories(add);
    return add.take();
}

}  // namespace conformance
