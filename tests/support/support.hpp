// Helpers for tests: temporary directories, files, and tensor files and checkpoints that are made
// without the library's own writer.
#ifndef SAFEFUSE_TESTS_SUPPORT_HPP
#define SAFEFUSE_TESTS_SUPPORT_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace support {

/// A new directory in the system's temporary directory. The destructor removes it with its content.
class temporary_directory {
public:
    temporary_directory() {
        std::random_device random;
        do {
            path_ = std::filesystem::temp_directory_path() /
                    ("safefuse-test-" + std::to_string(random()) + std::to_string(random()));
        } while (!std::filesystem::create_directory(path_));
    }
    temporary_directory(const temporary_directory&) = delete;
    temporary_directory& operator=(const temporary_directory&) = delete;
    ~temporary_directory() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }

    const std::filesystem::path& path() const { return path_; }
    std::string string() const { return path_.string(); }
    /// The path of a file in it, as text.
    std::string operator/(std::string_view name) const {
        return string() + '/' + std::string{name};
    }

private:
    std::filesystem::path path_;
};

/// UTF-8 text as a path. On Windows the standard library would assume the system's own encoding.
inline std::filesystem::path path_of(std::string_view text) {
    return std::u8string{text.begin(), text.end()};
}

inline std::span<const std::byte> bytes_of(std::string_view text) {
    return std::as_bytes(std::span{text.data(), text.size()});
}
inline std::string string_of(std::span<const std::byte> bytes) {
    return bytes.empty() ? std::string{}
                         : std::string{reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

inline void write_file(const std::filesystem::path& path, std::string_view contents) {
    std::ofstream file{path, std::ios::binary};
    file.write(contents.data(), static_cast<std::streamsize>(contents.size()));
}

inline std::string read_file(const std::filesystem::path& path) {
    std::ifstream file{path, std::ios::binary};
    return {std::istreambuf_iterator<char>{file}, {}};
}

/// Bytes that depend on the name and the position.
inline std::string pattern(std::string_view name, std::size_t size_bytes) {
    std::uint32_t state = 2166136261u;
    for (const char c : name) state = (state ^ static_cast<unsigned char>(c)) * 16777619u;
    std::string made(size_bytes, '\0');
    for (char& c : made) {
        state = state * 1664525u + 1013904223u;
        c = static_cast<char>(state >> 24);
    }
    return made;
}

/// A tensor for a file: its name, dtype as in a header, shape, and bytes.
struct tensor {
    std::string name;
    std::string type;
    std::vector<std::uint64_t> shape;
    std::string data;
};

/// A tensor of one-byte elements filled with its pattern.
inline tensor u8(std::string name, std::vector<std::uint64_t> shape) {
    std::size_t size_bytes = 1;
    for (const std::uint64_t extent : shape) size_bytes *= static_cast<std::size_t>(extent);
    std::string data = pattern(name, size_bytes);
    return {std::move(name), "U8", std::move(shape), std::move(data)};
}

/// A tensor of BF16 elements filled with its pattern.
inline tensor bf16(std::string name, std::vector<std::uint64_t> shape) {
    tensor made = u8(std::move(name), std::move(shape));
    made.type = "BF16";
    made.data = pattern(made.name, made.data.size() * 2);
    return made;
}

inline std::string json_string(std::string_view characters) {
    std::string spelled{"\""};
    for (const char c : characters) {
        if (c == '"' || c == '\\') {
            spelled += '\\';
            spelled += c;
        } else if (static_cast<unsigned char>(c) < 0x20) {
            constexpr char digits[] = "0123456789abcdef";
            spelled += "\\u00";
            spelled += digits[static_cast<unsigned char>(c) >> 4];
            spelled += digits[c & 15];
        } else {
            spelled += c;
        }
    }
    return spelled + '"';
}

/// Eight bytes of length, then header and data exactly as given.
inline std::string framed(std::string_view header, std::string_view data = {}) {
    std::string file(8, '\0');
    std::uint64_t size = header.size();
    for (char& c : file) {
        c = static_cast<char>(size & 255);
        size >>= 8;
    }
    file += header;
    file += data;
    return file;
}

/// The bytes of a valid tensor file, with tensors in the given order.
inline std::string tensor_file_bytes(const std::vector<tensor>& tensors,
                                     std::string_view metadata = R"({"format":"pt"})") {
    std::string header{"{"};
    std::string data;
    if (!metadata.empty()) header.append("\"__metadata__\":").append(metadata);
    for (const tensor& each : tensors) {
        if (header.size() > 1) header += ',';
        header += json_string(each.name) + ":{\"dtype\":\"" + each.type + "\",\"shape\":[";
        for (std::size_t axis = 0; axis < each.shape.size(); ++axis)
            header += (axis == 0 ? "" : ",") + std::to_string(each.shape[axis]);
        header += "],\"data_offsets\":[" + std::to_string(data.size()) + ',' +
                  std::to_string(data.size() + each.data.size()) + "]}";
        data += each.data;
    }
    header += '}';
    header.append((8 - header.size() % 8) % 8, ' ');
    return framed(header, data);
}

inline void write_tensor_file(const std::filesystem::path& path,
                              const std::vector<tensor>& tensors) {
    write_file(path, tensor_file_bytes(tensors));
}

/// A file of a checkpoint.
struct shard {
    std::string file;
    std::vector<tensor> tensors;
};

/// The text of a shard index that lists every tensor of every shard.
inline std::string index_text(const std::vector<shard>& shards) {
    std::string map;
    std::uint64_t total_bytes = 0;
    for (const shard& each : shards)
        for (const tensor& held : each.tensors) {
            map += (map.empty() ? "\n    " : ",\n    ") + json_string(held.name) + ": " +
                   json_string(each.file);
            total_bytes += held.data.size();
        }
    return "{\n  \"metadata\": {\n    \"total_size\": " + std::to_string(total_bytes) +
           "\n  },\n  \"weight_map\": {" + map + "\n  }\n}\n";
}

/// Writes the shards into a directory, without an index.
inline void write_shards(const std::filesystem::path& directory, const std::vector<shard>& shards) {
    for (const shard& each : shards) {
        const std::filesystem::path file = directory / path_of(each.file);
        std::filesystem::create_directories(file.parent_path());
        write_tensor_file(file, each.tensors);
    }
}

/// Writes the shards and model.safetensors.index.json into a directory.
inline void write_checkpoint(const std::filesystem::path& directory,
                             const std::vector<shard>& shards) {
    write_shards(directory, shards);
    write_file(directory / "model.safetensors.index.json", index_text(shards));
}

/// The number of open files of this process, or 0 if the system does not say.
inline std::size_t open_descriptors() {
    std::size_t count = 0;
#if !defined(_WIN32)
    std::error_code none;
    for (std::filesystem::directory_iterator at{"/proc/self/fd", none}, end; !none && at != end;
         at.increment(none))
        ++count;
#endif
    return count;
}

}  // namespace support

#endif
