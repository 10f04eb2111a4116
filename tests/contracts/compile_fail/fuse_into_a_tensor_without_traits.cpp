#include <span>
#include <vector>

#include <safefuse/run/fuse.hpp>

struct mine {
    std::vector<std::byte> storage;
    std::vector<std::uint64_t> extents;
};

#ifdef SAFEFUSE_FAIL
// tensor_traits<mine> is forgotten
#else
template <>
struct safefuse::tensor_traits<mine> {
    static std::span<std::byte> bytes(mine& t) { return t.storage; }
    static dtype type(const mine&) { return dtype::bf16; }
    static shape_view shape(const mine& t) { return t.extents; }
};
#endif

bool can_fuse(const safefuse::copy_plan& plan, mine& tensor) {
    return safefuse::fuse(plan, "gate_up_proj", tensor).has_value();
}
