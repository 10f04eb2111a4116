// Side files: the files of a model folder that are not tensor files. Chooses which of them are
// copied to a new checkpoint, and copies them.
#ifndef SAFEFUSE_EXAMPLES_SIDE_FILES_HPP
#define SAFEFUSE_EXAMPLES_SIDE_FILES_HPP

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <safefuse/safefuse.hpp>

namespace convert_checkpoint {

namespace sf = safefuse;

/// Converts a UTF-8 path of the library to std::filesystem, and back. Without this, std::filesystem
/// would use the OS's own encoding on Windows.
inline std::filesystem::path path_of(const std::string& text) {
    return std::u8string{text.begin(), text.end()};
}
inline std::string text_of(const std::filesystem::path& path) {
    const std::u8string text = path.u8string();
    return {text.begin(), text.end()};
}

/// The directory of a checkpoint: its path or the path's parent.
inline std::filesystem::path directory_of(const std::string& path) {
    const std::filesystem::path given = path_of(path);
    std::error_code ignored;
    if (std::filesystem::is_directory(given, ignored)) return given;
    return given.has_parent_path() ? given.parent_path() : std::filesystem::path{"."};
}

/// Which side files are copied.
enum class side_policy {
    known,  ///< files typical of model folders: `known_side_files`
    all,    ///< every regular file that is not a tensor file
    none,   ///< none
};

/// Names of side files that are typical of model folders on the hub. A `*` stands for any
/// characters. Case does not matter.
inline constexpr std::string_view known_side_files[] = {
    // configurations
    "config.json", "config.yaml", "config.yml", "configuration.json", "generation_config*.json",
    "params.json", "args.json", "*processor_config.json", "quant_config.json",
    "quantize_config.json", "quantization_config.json", "hf_quant_config.json",
    "quant_strategy.json", "recipe.yaml", "model_index.json", "modules.json",
    "sentence_bert_config.json", "config_sentence_transformers.json", "adapter_config.json",
    // tokenizers
    "tokenizer.json", "tokenizer.model", "tokenizer.model.v*", "tokenizer_config.json",
    "tokenizer_*.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt",
    "vocab.bpe", "merges.txt", "tekken.json", "*.tiktoken", "tiktoken.model", "spiece.model",
    "sentencepiece*.model", "spm.model", "normalizer.json", "bpe.codes",
    // templates
    "chat_template*.json", "*.jinja", "additional_chat_templates/*.jinja",
    // code
    "*.py",
    // licence, readme, and files of the hub; `license.key` does not match
    "license", "license*.txt", "license*.md", "license*.rst", "license*.pdf", "license-model",
    "license-code", "licence", "licence*.txt", "licence*.md", "copying", "copying*.txt",
    "copying*.md", "notice", "notice*.txt", "notice*.md", "third*notice*.txt", "third*notice*.md",
    "*use_policy*.txt", "*use_policy*.md", "readme", "readme*.txt", "readme*.md", "readme*.rst",
    "model_card.md", "modelcard.md", "citation.cff", "citation.bib", "citation.md",
    ".gitattributes"};

/// Endings of files with weights in other formats.
inline constexpr std::string_view other_weights[] = {
    // PyTorch, GGUF, ONNX
    ".bin", ".bin.index.json", ".pt", ".pth", ".ckpt", ".ckpt.index.json", ".distcp", ".ot",
    ".gguf", ".ggml", ".onnx", ".onnx_data",
    // TensorFlow, Flax
    ".h5", ".hdf5", ".h5.index.json", ".keras", ".tflite", ".pb", ".msgpack", ".msgpack.index.json",
    // others
    ".npz", ".npy", ".mlmodel", ".nemo", ".pkl", ".pickle", ".pdparams", ".pdiparams", ".engine",
    ".llamafile"};

/// Endings of files that a download, an editor or a backup leaves behind.
inline constexpr std::string_view leftovers[] = {
    ".incomplete", ".aria2", ".part", ".partial", ".crdownload", ".download",
    ".lock",       ".tmp",   ".temp", ".bak",     ".orig",       ".rej",
    ".old",        ".swp",   ".swo",  ".swx",     "~",           ".pyc"};

/// The name in lower case (ASCII only).
inline std::string lower(std::string_view name) {
    std::string out{name};
    for (char& c : out)
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    return out;
}

/// Whether a name matches a pattern.
inline bool fits(std::string_view name, std::string_view pattern) {
    const std::size_t star = pattern.find('*');
    if (star == std::string_view::npos) return name == pattern;
    if (!name.starts_with(pattern.substr(0, star))) return false;
    pattern.remove_prefix(star + 1);
    for (std::size_t skipped = star; skipped <= name.size(); ++skipped)
        if (fits(name.substr(skipped), pattern)) return true;
    return false;
}

/// The files that are copied, and those that are not, each with the reason.
struct side_files {
    struct left_file {
        std::string name;
        std::string why;
    };

    std::filesystem::path directory;
    std::vector<std::string> taken;  ///< names under `directory`, sorted
    std::vector<left_file> left;     ///< sorted by name
    std::uint64_t size_bytes = 0;    ///< of the files in `taken`

    /// Identity of every file of IN, so that no copy overwrites another file of IN.
    struct identified {
        std::string name;
        sf::file_identity identity;
    };
    std::vector<identified> all;
};

namespace side_rules {

template <std::size_t Count>
bool ends_in_one_of(std::string_view name, const std::string_view (&endings)[Count]) {
    return std::any_of(std::begin(endings), std::end(endings),
                       [&](std::string_view each) { return name.ends_with(each); });
}

/// Why a regular file that is not a tensor file is not copied. Empty: it is copied.
inline std::string why_left(const std::string& name, side_policy policy) {
    if (policy == side_policy::all) return {};
    if (policy == side_policy::none) return "--side-files=none";
    const std::string plain = lower(name);
    if (ends_in_one_of(plain, leftovers) || plain.starts_with('#') || plain.starts_with(".#"))
        return "left over from a download, an editor or a backup";
    if (std::any_of(std::begin(known_side_files), std::end(known_side_files),
                    [&](auto each) { return fits(plain, each); }))
        return {};
    if (ends_in_one_of(plain, other_weights)) return "weights in another format";
    return "not a known part of a model folder; --side-files=all copies it";
}

}  // namespace side_rules

/// Chooses from the files beside the tensors. `tensor_files` are the paths of the checkpoint's own
/// files. If `path` is a single tensor file, only config.json is copied with it, unless `policy` is
/// all.
///   fails   as reading a directory does; a dangling link is no failure: it is not copied
inline sf::result<side_files> choose_side_files(const std::string& path,
                                                const std::vector<std::string>& tensor_files,
                                                side_policy policy) {
    namespace fs = std::filesystem;
    side_files out;
    out.directory = directory_of(path);
    const auto identify = [&](const std::string& name, const std::string& file) {
        if (auto found = sf::file_identity::of(file)) out.all.push_back({name, *found});
    };
    std::vector<std::string> own;
    for (const std::string& file : tensor_files) {
        identify(file, file);
        own.push_back(text_of(path_of(file).filename()));
    }
    const auto leave = [&](const std::string& name, std::string why) {
        out.left.push_back({name, std::move(why)});
    };
    const auto judge = [&](const std::string& name) {
        const fs::path file = out.directory / path_of(name);
        std::error_code error;
        const fs::file_status status = fs::status(file, error);
        if (status.type() == fs::file_type::not_found) {
            if (fs::is_symlink(file, error)) leave(name, "a dangling link");
            return;  // it was removed meanwhile
        }
        if (status.type() == fs::file_type::none) return leave(name, error.message());
        if (status.type() == fs::file_type::directory) return leave(name, "a directory");
        if (status.type() != fs::file_type::regular) return leave(name, "not a regular file");
        identify(name, text_of(file));
        if (name.ends_with(sf::shard_index_ending) ||
            std::find(own.begin(), own.end(), name) != own.end())
            return;
        if (name.ends_with(sf::tensor_file_ending))
            return leave(name, "tensors that are not part of this checkpoint");
        if (name == sf::writer_state_file) return leave(name, "left by an interrupted run");
        if (std::string why = side_rules::why_left(name, policy); !why.empty())
            return leave(name, std::move(why));
        const std::uintmax_t size = fs::file_size(file, error);
        if (error) return leave(name, error.message());
        out.size_bytes += size;
        out.taken.push_back(name);
    };
    std::error_code ignored;
    const bool is_directory = fs::is_directory(path_of(path), ignored);
    if (policy != side_policy::all && !is_directory && path.ends_with(sf::tensor_file_ending)) {
        judge("config.json");
        return out;
    }
    for (const std::string below : {"", "additional_chat_templates/"}) {
        std::error_code error;
        if (!below.empty() && !fs::is_directory(out.directory / below, error)) continue;
        fs::directory_iterator at{out.directory / below, error};
        for (; !error && at != fs::directory_iterator{}; at.increment(error))
            if (const std::string name = below + text_of(at->path().filename());
                name != "additional_chat_templates" || !fs::is_directory(at->path(), ignored))
                judge(name);
        if (error)
            return sf::failure{.code = sf::errc::io_error,
                               .file = sf::text{text_of(out.directory / below)},
                               .detail = sf::text{error.message()}};
    }
    std::sort(out.taken.begin(), out.taken.end());
    std::sort(out.left.begin(), out.left.end(),
              [](const auto& a, const auto& b) { return a.name < b.name; });
    return out;
}

/// Removes temporary files of a run that was killed while it copied side files.
inline void remove_unfinished(const side_files& files, const std::string& destination) {
    std::error_code ignored;
    std::vector<std::filesystem::path> unfinished;
    for (std::filesystem::directory_iterator at{path_of(destination), ignored}, end;
         !ignored && at != end; at.increment(ignored)) {
        const std::string name = text_of(at->path().filename());
        const std::string_view target = sf::unfinished_target(name);
        for (const std::string& each : files.taken)
            if (each == target || (target.size() > 60 && each.starts_with(target)))
                unfinished.push_back(at->path());
    }
    for (const auto& path : unfinished) std::filesystem::remove(path, ignored);
}

/// Copies the files like shards: under a temporary name, synced, renamed, with the permissions of
/// the original.
///   fails   destination_in_source (through a link, the copy would overwrite another file of IN),
///           and as sf::copy_file
inline sf::result<void> copy_side_files(const side_files& files, const std::string& destination,
                                        sf::durability wait) {
    remove_unfinished(files, destination);
    for (const std::string& name : files.taken) {
        const std::filesystem::path to = path_of(destination) / path_of(name);
        std::error_code error;
        if (to.parent_path() != path_of(destination))
            std::filesystem::create_directory(to.parent_path(), error);
        if (const auto there = sf::file_identity::of(text_of(to)))
            for (const auto& each : files.all)
                if (each.name != name && each.identity == *there)
                    return sf::failure{.code = sf::errc::destination_in_source,
                                       .file = sf::text{text_of(to)},
                                       .detail = sf::text{"it is " + each.name + " of the source"}};
        if (auto copied =
                sf::copy_file(text_of(files.directory / path_of(name)), text_of(to), wait);
            !copied)
            return copied;
    }
    return {};
}

}  // namespace convert_checkpoint

#endif
