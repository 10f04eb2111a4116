// A tensor file: all profiles, with and without the fast path. An accepted file is read, searched,
// sliced and written again.
#include "fuzz.hpp"

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include <safefuse/format/header_writer.hpp>
#include <safefuse/read/tensor_file.hpp>
#include <safefuse/tensor/slice.hpp>

#include "../support/mutants.hpp"
#include "../support/oracle.hpp"

namespace sf = safefuse;

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace {

constexpr sf::read_options profiles[] = {sf::read_options::strict(), sf::read_options{},
                                         sf::read_options::reference(),
                                         sf::read_options::lenient()};
constexpr std::uint64_t most_data_bytes = 1 << 16;

bool same_shape(sf::shape_view a, sf::shape_view b) {
    return a.size() == b.size() &&
           (a.empty() || std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);
}

bool same_table(const sf::header& a, const sf::header& b) {
    if (a.size() != b.size() || a.metadata_size() != b.metadata_size() ||
        a.has_metadata() != b.has_metadata())
        return false;
    for (std::size_t i = 0; i < a.size(); ++i) {
        const sf::tensor_entry x = a[i], y = b[i];
        if (x.name != y.name || x.type != y.type || x.begin != y.begin || x.end != y.end ||
            !same_shape(x.shape, y.shape))
            return false;
    }
    for (std::size_t i = 0; i < a.metadata_size(); ++i)
        if (a.metadata(i).key != b.metadata(i).key || a.metadata(i).value != b.metadata(i).value)
            return false;
    return a.header_bytes() == b.header_bytes() && a.data_bytes() == b.data_bytes() &&
           a.file_bytes() == b.file_bytes();
}

void hold_table(const sf::header& header, std::uint64_t file_bytes,
                const sf::read_options& options) {
    const std::string_view fault = oracle::fault_of(header, file_bytes, options);
    fuzz::hold(fault.empty(), fault);
    std::uint64_t running = 0, gaps = 0;
    for (std::size_t i = 0; i < header.size(); ++i) {
        const sf::tensor_entry entry = header[i];
        FUZZ_HOLD(entry.begin >= running && entry.end >= entry.begin);
        gaps += entry.begin - running;
        running = entry.end;
        std::uint64_t size_bytes = 0;
        FUZZ_HOLD(sf::tensor_size(entry.type, entry.shape, size_bytes) == sf::size_verdict::fits &&
                  size_bytes == entry.size_bytes());
        FUZZ_HOLD(header.find(entry.name) == i);
        std::string other{entry.name};
        other += '!';
        const std::size_t at = header.find(other);
        FUZZ_HOLD(at == sf::header::npos || header[at].name == other);
    }
    FUZZ_HOLD(running == header.data_bytes() && gaps == header.gap_bytes());
    FUZZ_HOLD(file_bytes == sf::unknown || header.file_bytes() == file_bytes);
    for (std::size_t i = 0; i < header.metadata_size(); ++i) {
        std::string_view value;
        FUZZ_HOLD(header.find_metadata(header.metadata(i).key, value) &&
                  value == header.metadata(i).value);
    }
}

/// Checks that an accepted header can be written so that the strictest profile accepts it, with the
/// same tensors, and that writing it again gives the same bytes.
void hold_writing(const sf::header& header) {
    std::vector<sf::tensor_spec> specs;
    std::vector<sf::metadata_entry> metadata;
    for (std::size_t i = 0; i < header.size(); ++i) specs.push_back(header[i]);
    for (std::size_t i = 0; i < header.metadata_size(); ++i) metadata.push_back(header.metadata(i));
    const auto written = sf::encode_header(specs, metadata);
    FUZZ_HOLD(written.has_value());
    const auto again =
        sf::header::parse(written->bytes.view(), written->file_bytes, sf::read_options::strict());
    FUZZ_HOLD(again.has_value() && again->size() == header.size() &&
              again->metadata_size() == header.metadata_size());
    for (std::size_t i = 0; i < header.size(); ++i) {
        const std::size_t at = again->find(header[i].name);
        FUZZ_HOLD(at != sf::header::npos && (*again)[at].type == header[i].type &&
                  same_shape((*again)[at].shape, header[i].shape));
        FUZZ_HOLD((*again)[at].begin + again->header_bytes() == written->offsets[i]);
    }
    for (const sf::metadata_entry& each : metadata) {
        std::string_view value;
        FUZZ_HOLD(again->find_metadata(each.key, value) && value == each.value);
    }
    specs.clear();
    metadata.clear();
    for (std::size_t i = 0; i < again->size(); ++i) specs.push_back((*again)[i]);
    for (std::size_t i = 0; i < again->metadata_size(); ++i) metadata.push_back(again->metadata(i));
    const auto rewritten = sf::encode_header(specs, metadata);
    FUZZ_HOLD(rewritten.has_value() && rewritten->bytes.size() == written->bytes.size() &&
              std::memcmp(rewritten->bytes.data(), written->bytes.data(), written->bytes.size()) ==
                  0);
}

/// Compares slices of every tensor with a view and with bounds. `choice` selects the ranges.
void hold_slices(std::span<const std::byte> file, const sf::read_options& options,
                 fuzz::reader choice) {
    const auto opened =
        sf::basic_tensor_file<sf::memory_source>::from(sf::memory_source{file}, "fuzzed", options);
    FUZZ_HOLD(opened.has_value());
    for (std::size_t i = 0; i < opened->size(); ++i) {
        const sf::tensor_entry entry = (*opened)[i];
        const auto view = opened->view(i);
        FUZZ_HOLD(view.has_value() && view->size_bytes() == entry.size_bytes());
        std::vector<sf::axis_range> ranges(choice.byte() % 5);
        for (sf::axis_range& each : ranges) {
            const std::uint8_t first = choice.byte(), second = choice.byte();
            each = first % 8 == 7 ? sf::at(second % 4)
                                  : sf::range(first % 8, second == 255 ? sf::unknown : second % 16);
        }
        const auto runs = opened->runs_of(i, ranges);
        if (!runs) continue;
        std::uint64_t covered = 0;
        const auto done =
            runs->for_each_run([&](std::uint64_t offset) noexcept -> sf::result<void> {
                FUZZ_HOLD(offset <= entry.size_bytes() &&
                          entry.size_bytes() - offset >= runs->run_bytes());
                covered += runs->run_bytes();
                return {};
            });
        FUZZ_HOLD(done.has_value() && covered == runs->size_bytes());
        std::uint64_t size_bytes = 0;
        FUZZ_HOLD(sf::tensor_size(entry.type, runs->shape(), size_bytes) ==
                      sf::size_verdict::fits &&
                  size_bytes == covered);
        std::vector<std::byte> out(static_cast<std::size_t>(covered));
        FUZZ_HOLD(opened->read_slice(i, ranges, out).has_value());
        if (runs->is_contiguous()) {
            const auto part = view->slice(*runs);
            FUZZ_HOLD(
                part.has_value() && part->size_bytes() == covered &&
                (covered == 0 || std::memcmp(part->bytes().data(), out.data(), out.size()) == 0));
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view input{reinterpret_cast<const char*>(data), size};
    const auto file = fuzz::bytes_of(input);
    sf::result<sf::header> found[std::size(profiles)] = {sf::failure{}, sf::failure{},
                                                         sf::failure{}, sf::failure{}};
    for (std::size_t p = 0; p < std::size(profiles); ++p) {
        const sf::read_options& options = profiles[p];
        found[p] = sf::header::parse(file, size, options);
        const auto& fast = found[p];
        const auto needed = sf::header::bytes_needed(file, options);
        FUZZ_HOLD(needed.has_value() || !fast.has_value());
        if (!needed || *needed > size) {
            FUZZ_HOLD(!fast.has_value());
            continue;
        }
        const std::string_view json = input.substr(8, static_cast<std::size_t>(*needed) - 8);
        const auto plain = sf::detail::read_header(json, size, options, false);
        FUZZ_HOLD(fast.has_value() == plain.has_value());
        const auto unsized = sf::header::parse(file, sf::unknown, options);
        FUZZ_HOLD(!fast.has_value() || unsized.has_value());
        if (unsized) hold_table(*unsized, sf::unknown, options);
        if (!fast) {
            FUZZ_HOLD(fast.error().message() == plain.error().message());
            continue;
        }
        FUZZ_HOLD(same_table(*fast, *plain));
        hold_table(*fast, size, options);
        const std::string_view fault = oracle::fault_of_views(input, options);
        fuzz::hold(fault.empty(), fault);
        hold_writing(*fast);
        if (fast->data_bytes() <= most_data_bytes)
            hold_slices(file, options, fuzz::reader{input.substr(input.size() / 2)});
    }
    // What a profile accepts, a more tolerant one accepts with the same table.
    constexpr std::size_t pairs[][2] = {{0, 1}, {1, 2}, {1, 3}};
    for (const auto& pair : pairs)
        FUZZ_HOLD(!found[pair[0]].has_value() ||
                  (found[pair[1]].has_value() && same_table(*found[pair[0]], *found[pair[1]])));
    return 0;
}

/// Most mutations keep the frame intact: the length fits the JSON, and the file has the size that
/// its tensors need. One in eight is a new table with changed numbers, and in one of eight a number
/// is replaced, often by a power of two.
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned int seed) {
    if (size < 8 || max_size < 64 || seed % 8 == 0) return LLVMFuzzerMutate(data, size, max_size);
    if (seed % 8 == 2) {
        const std::string made = mutants::file_of(mutants::make(seed));
        if (made.size() <= max_size) {
            std::memcpy(data, made.data(), made.size());
            return made.size();
        }
    }
    std::uint64_t length = 0;
    std::memcpy(&length, data, 8);
    std::string json{reinterpret_cast<const char*>(data) + 8,
                     static_cast<std::size_t>(length < size - 8 ? length : size - 8)};
    const std::size_t old = json.size(), room = max_size - 8;
    if (seed % 8 == 4) {
        // The data keeps its size, which may still be the sum modulo 2^64 that a weak validator
        // computes.
        mutants::random_numbers random{seed};
        mutants::change_number(json, random);
        if (json.size() > room) json.resize(room);
        std::string changed = fuzz::framed(json);
        changed.append(std::min(size - 8 - old, max_size - changed.size()), '\0');
        std::memcpy(data, changed.data(), changed.size());
        return changed.size();
    }
    json.resize(room);
    json.resize(LLVMFuzzerMutate(reinterpret_cast<std::uint8_t*>(json.data()), old, room));
    std::string file = fuzz::file_of(json, max_size - 8 - json.size());
    if (seed % 16 == 1) file.append(seed / 16 % 8, '\0');
    if (file.size() > max_size) file.resize(max_size);
    std::memcpy(data, file.data(), file.size());
    return file.size();
}
