#include <utility>

#include <safefuse/read/checkpoint.hpp>

safefuse::result<safefuse::tensor_view> head_of(safefuse::checkpoint checkpoint,
                                                safefuse::checkpoint& kept) {
#ifdef SAFEFUSE_FAIL
    return std::move(checkpoint).find("lm_head.weight");
#else
    kept = std::move(checkpoint);
    return kept.find("lm_head.weight");
#endif
}
