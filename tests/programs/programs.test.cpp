// The example programs on hostile checkpoints: what reaches the terminal, and which files are
// copied.
#include <safefuse/core/printable.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/format/detail/json_cursor.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "../support/run_program.hpp"
#include "../support/support.hpp"

namespace sf = safefuse;
namespace fs = std::filesystem;
using support::temporary_directory;
using support::write_file;

TEST_CASE("printable: control characters of a terminal are escaped, all others are kept") {
    const auto shown = [](std::string_view given) {
        return std::string{sf::printable(given).view()};
    };
    CHECK(shown("") == "");
    CHECK(shown("model.layers.0/äß-中文-🧠 \\ \"'") == "model.layers.0/äß-中文-🧠 \\ \"'");
    CHECK(shown("a\x1B[2Jb") == "a\\u001b[2Jb");
    CHECK(shown("a\nb\rc\td") == "a\\nb\\rc\\td");
    CHECK(shown(std::string_view{"\0\x1F\x7F", 3}) == "\\u0000\\u001f\\u007f");
    CHECK(shown("\xC2\x9B"
                "31m\xC2\x80\xC2\x9F\xC2\xA0") == "\\u009b31m\\u0080\\u009f\xC2\xA0");
    for (const unsigned code : {0x61Cu, 0x200Eu, 0x200Fu, 0x2028u, 0x2029u, 0x202Au, 0x202Bu,
                                0x202Cu, 0x202Du, 0x202Eu, 0x2066u, 0x2067u, 0x2068u, 0x2069u}) {
        std::string character;
        if (code < 0x800) {
            character += static_cast<char>(0xC0 | code >> 6);
        } else {
            character += static_cast<char>(0xE0 | code >> 12);
            character += static_cast<char>(0x80 | (code >> 6 & 63));
        }
        character += static_cast<char>(0x80 | (code & 63));
        char escape[8];
        std::snprintf(escape, sizeof escape, "\\u%04x", code);
        CHECK(shown("<" + character + ">") == "<" + std::string{escape} + ">");
    }
    CHECK(shown("\xE2\x80\x8D\xE2\x81\xA5\xE2\x81\xAA") ==
          "\xE2\x80\x8D\xE2\x81\xA5\xE2\x81\xAA");  // neighbours
    // not UTF-8: a lone start, a lone continuation, overlong, a surrogate, too high, truncated
    CHECK(shown("\xFF|\x9B|\xC0\x9B|\xED\xA0\x80|\xF5\x80\x80\x80|\xE2\x80") ==
          "\\xff|\\x9b|\\xc0\\x9b|\\xed\\xa0\\x80|\\xf5\\x80\\x80\\x80|\\xe2\\x80");
}

TEST_CASE("printable: a failure's message escapes every text that it has") {
    const sf::failure why{
        .code = sf::errc::io_error, .file = "f\x1B", .tensor = "t\n", .detail = "d\xE2\x80\xAE"};
    CHECK(std::string{why.message().view()} ==
          "f\\u001b: tensor \"t\\n\": reading or writing failed (d\\u202e)");
    const sf::failure scoped{.code = sf::errc::no_experts, .scope = "s\x7F"};
    CHECK(scoped.message().view().find("experts \"s\\u007f\": ") == 0);
}

#if !defined(_WIN32)
namespace {

/// Begins a new line, colours the text after it, moves the cursor, changes the writing direction,
/// and is partly not UTF-8.
const std::string hostile =
    "\x1B[31m\rproblems   none\nerror: forged\t\xC2\x9B"
    "2J\xE2\x80\xAE\xE2\x81\xA6\x7F";
const std::string no_utf8 = "\xFF\x9B\xC0";

/// Checks for control characters, characters that change the writing direction, and bytes that are
/// not UTF-8, other than line ends.
bool is_harmless(const std::string& said) {
    for (std::string_view left = said; !left.empty();) {
        const sf::character next = sf::first_character(left);
        if (!next.is_printable && next.code != '\n') return false;
        left.remove_prefix(next.size);
    }
    return said.find("\nerror: forged") == std::string::npos &&
           said.find("\nproblems   none\nerror") == std::string::npos;
}

bool is_json(const std::string& said) {
    sf::detail::json_cursor cursor{std::string_view{said}};
    return sf::detail::is_utf8(said) && cursor.skip_value() && cursor.finish();
}
bool has_python() { return std::system("python3 -c 'import json' >/dev/null 2>&1") == 0; }
bool python_takes(const std::string& said) {
    const temporary_directory directory;
    write_file(directory / "json", said);
    return std::system(("python3 -c 'import json, sys; json.loads(open(sys.argv[1], "
                        "\"rb\").read().decode())' " +
                        support::quoted(directory / "json"))
                           .c_str()) == 0;
}

std::string json_text(const std::string& text) { return support::json_string(text); }

/// The experts of one layer, two of them, under a prefix.
std::vector<support::tensor> experts(const std::string& prefix) {
    std::vector<support::tensor> made;
    for (const char* expert : {"0", "1"})
        for (const std::string part : {"gate_proj", "up_proj", "down_proj"})
            made.push_back(support::bf16(prefix + "mlp.experts." + expert + "." + part + ".weight",
                                         part == "down_proj" ? std::vector<std::uint64_t>{3, 2}
                                                             : std::vector<std::uint64_t>{2, 3}));
    return made;
}

/// A checkpoint that can be fused, with hostile names and metadata.
void write_hostile(const fs::path& directory, const std::string& prefix,
                   const std::string& model_type) {
    fs::create_directories(directory);
    auto tensors = experts(prefix);
    tensors.push_back(support::bf16(hostile, {2}));
    write_file(
        directory / "model.safetensors",
        support::tensor_file_bytes(tensors, "{\"format\":\"pt\"," + json_text(hostile) + ":" +
                                                json_text(hostile + "metadata") + "}"));
    write_file(directory / "config.json",
               "{\"model_type\": " + json_text(model_type) + ", \"num_experts\": 2}");
    write_file(directory / ("notes" + hostile + no_utf8), "text");
    write_file(directory / ("weights" + hostile + no_utf8 + ".bin"), "weights");
}

}  // namespace

TEST_CASE("programs: no text of a file or a path reaches the terminal raw, and JSON is JSON") {
    const std::string bin = support::folder_of_programs("SAFEFUSE_PROGRAMS");
    if (bin.empty()) {
        MESSAGE("skipped: SAFEFUSE_PROGRAMS names no folder");
        return;
    }
    const bool python = has_python();
    const temporary_directory directory;
    const std::string base = directory / ("in" + hostile + no_utf8),
                      other = directory / ("type" + no_utf8),
                      broken = directory / ("broken" + hostile),
                      out = directory / ("out" + hostile + no_utf8);
    write_hostile(base, "model.layers.0.", "qwen3_moe");
    write_hostile(other, hostile + ".layers.0.", hostile);
    // hostile names in messages: the dtype, the tensor, the shard
    fs::create_directories(broken);
    write_file(broken + "/model.safetensors",
               support::framed("{" + json_text(hostile) + ":{\"dtype\":" + json_text(hostile) +
                               ",\"shape\":[0],\"data_offsets\":[0,0]}}"));
    fs::create_directories(directory / "index");
    write_file(directory / "index/model.safetensors.index.json",
               "{\"weight_map\":{" + json_text(hostile) + ":" +
                   json_text(hostile + ".safetensors") + "," + json_text("t" + hostile) + ":" +
                   json_text("\xC2\x9B\xE2\x80\xAE.safetensors") + "}}");
    write_hostile(directory / "pruned", hostile + ".layers.0.", "qwen3_moe");
    write_file(directory / "pruned/config.json",
               "{\"model_type\": \"qwen3_moe\", \"num_experts\": 3}");

    const auto said = [&](const std::string& program, const std::vector<std::string>& arguments,
                          int status) {
        REQUIRE_MESSAGE(fs::exists(bin + '/' + program), "the example programs are not built");
        const auto ran = support::run_program(bin + '/' + program, arguments);
        INFO(program, " ",
             arguments.empty() ? std::string{} : sf::printable(arguments.back()).c_str());
        INFO("stdout: ", ran.out);
        INFO("stderr: ", ran.err);
        CHECK(ran.status == status);
        CHECK(is_harmless(ran.out));
        CHECK(is_harmless(ran.err));
        const bool json =
            std::find(arguments.begin(), arguments.end(), "--json") != arguments.end();
        if (json && status == 0) {
            CHECK(is_json(ran.out));
            if (python) CHECK(python_takes(ran.out));
        }
        return ran;
    };

    CHECK(said("inspect", {base, "--tensors", "--experts"}, 0).out.find("\\u001b[31m") !=
          std::string::npos);
    const auto json = said("inspect", {base, "--tensors", "--json"}, 0);
    CHECK(json.out.find("\\ufffd") != std::string::npos);                     // the path
    CHECK(json.out.find("\\u001b[31m\\u000dproblems") != std::string::npos);  // the names are exact
    said("inspect", {other, "--tensors", "--experts"}, 0);
    said("inspect", {other, "--tensors", "--json"}, 0);
    said("inspect", {directory / "pruned", "--experts"}, 0);
    said("inspect", {broken}, 1);
    said("inspect", {directory / "index"}, 1);
    said("inspect", {directory / ("nothing" + hostile + no_utf8)}, 1);
    said("inspect", {"x", "--" + hostile + no_utf8}, 2);

    for (const std::string program : {"fuse_checkpoint", "repack_checkpoint"}) {
        CAPTURE(program);
        const std::string to = out + program;
        said(program, {base, to, "--dry-run"}, 0);
        said(program, {base, to, "--dry-run", "--json"}, 0);
        said(program, {base, to, "--one-tensor-per-file"}, 0);
        said(program, {base, to}, 1);
        said(program, {base, to, "--resume"}, 1);
        said(program, {base, to + "json", "--json"}, 0);
        said(program, {base, to + "all", "--side-files=all"}, 0);
        said(program, {broken, to + "b"}, 1);
        said(program, {directory / "index", to + "b"}, 1);
        said(program, {directory / "pruned", to + "p"},
             program == "fuse_checkpoint" ? 1 : 0);  // repacking requires no experts
        said(program, {base, to + "b", "--layout", hostile + no_utf8}, 1);
        said(program, {base, to + "b", "--side-files=" + hostile}, 2);
    }
    said("verify_fused", {base, out + "fuse_checkpoint"}, 0);
    said("verify_fused", {base, other}, 1);
    said("unfuse_checkpoint", {out + "fuse_checkpoint", out + "back", "--dry-run", "--json"}, 0);
    said("unfuse_checkpoint", {out + "fuse_checkpoint", out + "back"}, 0);
    said("unfuse_checkpoint", {broken, out + "b"}, 1);
    said("make_checkpoint",
         {out + "made", "--layers", "1", "--experts", "2", "--hidden", "8", "--intermediate", "8"},
         0);
    said("make_checkpoint", {out + "made2", "--family", hostile}, 2);
    said("05_fuse_one_layer", {other}, 0);
    said("05_fuse_one_layer", {base, hostile}, 1);
    said("05_fuse_one_layer", {broken}, 1);
    said("10_your_source", {hostile}, 1);
    said("10_your_source", {broken}, 1);
    said("06_every_layer", {other}, 0);
    said("06_every_layer", {other, hostile}, 1);
    said("06_every_layer", {broken}, 1);
    said("07_models_tensors", {other}, 0);
    said("07_models_tensors", {broken}, 1);
}

TEST_CASE(
    "side files: the other files of a model folder are copied; unknown files are named and not "
    "copied") {
    const std::string bin = support::folder_of_programs("SAFEFUSE_PROGRAMS");
    if (bin.empty()) {
        MESSAGE("skipped: SAFEFUSE_PROGRAMS names no folder");
        return;
    }
    const temporary_directory directory;
    const std::string in = directory / "in";
    fs::create_directories(in + "/additional_chat_templates");
    support::write_tensor_file(in + "/model.safetensors", experts("model.layers.0."));
    const std::vector<std::string> known{"LICENSE",
                                         "README.md",
                                         "additional_chat_templates/tools.jinja",
                                         "chat_template.jinja",
                                         "config.json",
                                         "generation_config.json",
                                         "merges.txt",
                                         "modeling_x.py",
                                         "preprocessor_config.json",
                                         "tokenizer.json",
                                         "tokenizer.model",
                                         "tokenizer_config.json",
                                         "vocab.json"};
    const std::vector<std::string> left{".config.json.swp",
                                        "README.md~",
                                        "license.key",
                                        "consolidated.pth",
                                        "id_rsa",
                                        "keys.json",
                                        "letter.docx",
                                        "model.gguf",
                                        "model.onnx",
                                        "model.safetensors.incomplete",
                                        "model.safetensors.aria2",
                                        "pytorch_model.bin",
                                        "pytorch_model.bin.index.json",
                                        "tf_model.h5",
                                        "tokenizer.json.bak",
                                        "tokenizer.json.lock",
                                        "training_args.bin",
                                        "flax_model.msgpack"};
    for (const std::string& name : known) write_file(in + '/' + name, name + " contents");
    for (const std::string& name : left) write_file(in + '/' + name, "private " + name);
    write_file(in + "/config.json", R"({"model_type": "qwen3_moe", "num_experts": 2})");
    fs::permissions(in + "/tokenizer.json", static_cast<fs::perms>(0600));
    support::write_tensor_file(in + "/other.safetensors", {support::bf16("x", {1})});
    fs::create_symlink("nowhere", in + "/vocab.txt");  // a name that would be copied
    fs::create_symlink("nowhere", in + "/dangling");
    fs::create_symlink("nowhere.safetensors", in + "/dangling.safetensors");
    fs::create_directory(in + "/original");

    const auto run = [&](std::vector<std::string> arguments, int status) {
        const auto ran = support::run_program(bin + "/fuse_checkpoint", arguments);
        INFO("stdout: ", ran.out);
        INFO("stderr: ", ran.err);
        CHECK(ran.status == status);
        return ran;
    };
    const auto files = [](const std::string& folder) {
        std::vector<std::string> found;
        for (const auto& each : fs::recursive_directory_iterator{folder})
            if (!each.is_directory())
                found.push_back(fs::relative(each.path(), folder).generic_string());
        std::sort(found.begin(), found.end());
        return found;
    };

    SUBCASE("known") {
        const auto dry = run({in, directory / "dry", "--dry-run"}, 0);
        CHECK_FALSE(fs::exists(directory / "dry"));
        const auto done = run({in, directory / "out"}, 0);
        std::vector<std::string> wanted = known;
        wanted.push_back("model.safetensors");
        std::sort(wanted.begin(), wanted.end());
        CHECK(files(directory / "out") == wanted);
        for (const std::string& name : known) {
            CAPTURE(name);
            CHECK(dry.out.find("would copy " + name + "\n") != std::string::npos);
            CHECK(support::read_file(directory / ("out/" + name)) ==
                  support::read_file(in + '/' + name));
        }
        for (const std::string& name : left) {
            CAPTURE(name);
            CHECK(dry.out.find("left       " + name + ": ") != std::string::npos);
        }
        for (const std::string line :
             {"pytorch_model.bin: weights in another format", "vocab.txt: a dangling link",
              "dangling: a dangling link", "dangling.safetensors: a dangling link",
              "original: a directory",
              "other.safetensors: tensors that are not part of this checkpoint",
              "model.safetensors.incomplete: left over from a download, an editor or a backup"}) {
            CAPTURE(line);
            CHECK(dry.out.find("left       " + line + "\n") != std::string::npos);
        }
        CHECK(done.out.find("and 13 other files") != std::string::npos);
        CHECK(done.out.find("left       .config.json.swp: ") != std::string::npos);
        CHECK(static_cast<unsigned>(fs::status(directory / "out/tokenizer.json").permissions()) ==
              0600u);
    }
    SUBCASE("all and none") {
        run({in, directory / "all", "--side-files=all"}, 0);
        CHECK(files(directory / "all").size() == known.size() + left.size() + 1);
        run({in, directory / "none", "--side-files", "none"}, 0);
        CHECK(files(directory / "none") == std::vector<std::string>{"model.safetensors"});
        CHECK(run({in, directory / "x", "--side-files=some"}, 2).err.find("known, all or none") !=
              std::string::npos);
    }
    SUBCASE("beside a single tensor file, its config alone") {
        run({in + "/model.safetensors", directory / "out"}, 0);
        CHECK(files(directory / "out") ==
              std::vector<std::string>{"config.json", "model.safetensors"});
    }
    SUBCASE("all are counted: what is copied and what is written must fit") {
        const auto dry = run({in, directory / "dry", "--dry-run", "--json"}, 0);
        std::uintmax_t size = 0;
        for (const std::string& name : known) size += fs::file_size(in + '/' + name);
        CHECK(dry.out.find("\"side_files\": 13, \"side_bytes\": " + std::to_string(size) + ",") !=
              std::string::npos);
        // a sparse file, larger than any disk here
        fs::resize_file(in + "/tokenizer.json", std::uintmax_t{1} << 42);
        CHECK(run({in, directory / "dry", "--dry-run"}, 1).out.find("too little") !=
              std::string::npos);
        const auto refused = run({in, directory / "out"}, 1);
        CHECK(refused.err.find("no space left on the disk (nothing was written)") !=
              std::string::npos);
        CHECK((!fs::exists(directory / "out") || files(directory / "out").empty()));
    }
    SUBCASE("a file of IN that is a link to OUT's file is neither removed nor changed") {
        const std::string out = directory / "out";
        fs::create_directory(out);
        fs::rename(in + "/config.json", out + "/config.json");
        fs::create_symlink(out + "/config.json", in + "/config.json");
        const std::string config = support::read_file(out + "/config.json");
        run({in, out}, 0);
        CHECK(support::read_file(out + "/config.json") == config);
        CHECK(support::read_file(in + "/config.json") == config);
        CHECK(support::read_file(out + "/README.md") == "README.md contents");
    }
    SUBCASE("OUT's file that is another file of IN, by a link, is not replaced") {
        const std::string out = directory / "out";
        fs::create_directory(out);
        fs::rename(in + "/vocab.json", out + "/merges.txt");
        fs::create_symlink(out + "/merges.txt", in + "/vocab.json");
        const auto refused = run({in, out}, 1);
        CHECK(refused.err.find("vocab.json of the source") != std::string::npos);
        CHECK(support::read_file(in + "/vocab.json") == "vocab.json contents");
    }
}

TEST_CASE(
    "side files: if the disk is full while they are copied, the message says so and no partial "
    "file remains") {
    const std::string bin = support::folder_of_programs("SAFEFUSE_PROGRAMS");
    if (bin.empty()) {
        MESSAGE("skipped: SAFEFUSE_PROGRAMS names no folder");
        return;
    }
    const temporary_directory directory;
    fs::create_directory(directory / "in");
    fs::create_directory(directory / "disk");
    support::write_tensor_file(directory / "in/model.safetensors", experts("model.layers.0."));
    write_file(directory / "in/config.json", R"({"model_type": "qwen3_moe", "num_experts": 2})");
    write_file(directory / "in/README.md", std::string(1u << 20, 'r'));
    // --reflink does not check for free space: much of what is written may be shared
    const std::string script =
        "mount -t tmpfs -o size=256k tmpfs \"$1/disk\" || exit 77; echo mounted; "
        "\"$2\" \"$1/in\" \"$1/disk/out\" --reflink; "
        "came=$?; ls -A \"$1/disk/out\"; exit $came";
    auto ran = support::run_program(
        "unshare", {"-m", "sh", "-c", script, "sh", directory.string(), bin + "/fuse_checkpoint"});
    // unshare itself ends with 1, too, in a chroot for example
    if (ran.out.find("mounted\n") == std::string::npos) {
        MESSAGE("skipped: no tmpfs may be mounted here");
        return;
    }
    INFO("stdout: ", ran.out);
    CHECK(ran.status == 1);
    CHECK(ran.err.find("error: " + (directory / "disk/out/README.md") +
                       ": no space left on the disk, ") != std::string::npos);
    CHECK(ran.out.find(".tmp") == std::string::npos);
    CHECK(ran.out.find("model.safetensors.index.json") == std::string::npos);
}
#endif
