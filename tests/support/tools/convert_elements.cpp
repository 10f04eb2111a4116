// For tests/interop: shows other programs the results of convert.hpp on elements in files without
// headers.
//   convert_elements cast FROM TO IN OUT
//   convert_elements blocks CODES SHAPE SCALES SHAPE ROWS COLUMNS TO IN SCALES_IN OUT
//   convert_elements mxfp4 SHAPE TO IN SCALES_IN OUT
// FROM, TO, CODES, SCALES: a dtype such as F8_E4M3. SHAPE: extents such as 2,256,16.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <safefuse/run/convert.hpp>
#include <safefuse/run/dequantize.hpp>

namespace sf = safefuse;

namespace {

[[noreturn]] void stop(const char* what) {
    std::fprintf(stderr, "error: %s\n", what);
    std::exit(1);
}
template <class T>
T value_of(sf::result<T> done) {
    if (!done) stop(done.error().message().c_str());
    return std::move(*done);
}

std::string read(const char* path) {
    std::ifstream file{path, std::ios::binary};
    if (!file) stop(path);
    return {std::istreambuf_iterator<char>{file}, {}};
}

sf::dtype type_of(const char* name) {
    sf::dtype type{};
    if (!sf::parse_dtype(name, type)) stop(name);
    return type;
}
std::vector<std::uint64_t> shape_of(std::string_view extents) {
    std::vector<std::uint64_t> shape;
    for (; !extents.empty(); extents.remove_prefix(
             extents.find(',') < extents.size() ? extents.find(',') + 1 : extents.size()))
        shape.push_back(std::strtoull(std::string{extents}.c_str(), nullptr, 10));
    return shape;
}

/// Makes `count` elements with `make(out)` and writes them.
template <class Make>
int write(const char* path, std::uint64_t count, sf::dtype type, const Make& make) {
    std::vector<std::byte> out(static_cast<std::size_t>(count * sf::bits(type) / 8));
    if (const sf::result<void> done = make(out); !done) stop(done.error().message().c_str());
    std::ofstream{path, std::ios::binary}.write(reinterpret_cast<const char*>(out.data()),
                                                static_cast<std::streamsize>(out.size()));
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    const std::string_view what = argc > 1 ? argv[1] : "";
    if (what == "cast" && argc == 6) {
        const sf::dtype from = type_of(argv[2]), to = type_of(argv[3]);
        const std::string in = read(argv[4]);
        return write(argv[5], in.size() / (sf::bits(from) / 8), to, [&](std::span<std::byte> out) {
            return sf::convert_elements(from, std::as_bytes(std::span{in}), to, out);
        });
    }
    if (what == "blocks" && argc == 12) {
        const std::string in = read(argv[9]), scales_in = read(argv[10]);
        const auto shape = shape_of(argv[3]), scales_shape = shape_of(argv[5]);
        const auto codes =
            value_of(sf::tensor_view::of(type_of(argv[2]), shape, std::as_bytes(std::span{in})));
        const auto scales = value_of(sf::tensor_view::of(type_of(argv[4]), scales_shape,
                                                         std::as_bytes(std::span{scales_in})));
        const sf::scale_block block{std::strtoull(argv[6], nullptr, 10),
                                    std::strtoull(argv[7], nullptr, 10)};
        const sf::dtype to = type_of(argv[8]);
        return write(argv[11], codes.element_count(), to, [&](std::span<std::byte> out) {
            return sf::dequantize_blocks(codes, scales, block, to, out);
        });
    }
    if (what == "mxfp4" && argc == 7) {
        const std::string in = read(argv[4]), scales_in = read(argv[5]);
        const auto shape = shape_of(argv[2]);
        const auto blocks =
            value_of(sf::tensor_view::of(sf::dtype::u8, shape, std::as_bytes(std::span{in})));
        const auto scales =
            value_of(sf::tensor_view::of(sf::dtype::u8, std::span{shape}.first(shape.size() - 1),
                                         std::as_bytes(std::span{scales_in})));
        const sf::dtype to = type_of(argv[3]);
        return write(argv[6], blocks.element_count() * 2, to, [&](std::span<std::byte> out) {
            return sf::dequantize_mxfp4(blocks, scales, to, out);
        });
    }
    std::fprintf(
        stderr,
        "usage: convert_elements cast FROM TO IN OUT\n"
        "       convert_elements blocks CODES SHAPE SCALES SHAPE ROWS COLUMNS TO IN SCALES_IN OUT\n"
        "       convert_elements mxfp4 SHAPE TO IN SCALES_IN OUT\n");
    return 2;
}
